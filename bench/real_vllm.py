"""prefsmith over vLLM in process, beside raw `LLM.generate` on the same prompts: `python bench/real_vllm.py`
(a file called vllm.py would be imported for vLLM itself).

Processes in turn: vLLM's own offline call with everything handed over at once, as it comes (the engine is a process of
its own) and, on a CPU, in one process, where nothing is sent between two; and the whole job of ours from the first
request on, ledger, grader and exported file included. Counted are the CPU-seconds of client and engine together, their
start apart, and tokens a second. Needs vLLM (tests/real.sh vllm makes an environment).

The model is the bundled one with its end of text moved to a token that it never says: alone it answers in 5 tokens,
this one fills max_tokens. `--as-trained` leaves it its ends (then graders have something to do, too).

On a machine with a GPU: `--model NAME --args '{"max_model_len": 8192}' --max-tokens 512`, NAME an instruct model that
is on the machine or that it may fetch; there the tokens a second decide (goal: 95 % of raw). Never run on one so far.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from measure import parser, scratch, wrote_prompts, wrote_recipe

TINY = Path(__file__).resolve().parent.parent / "tests" / "data" / "tiny"
GOAL_CPU, GOAL_TOKENS = 1.05, 0.95
N, TEMPERATURE = 4, 1.0
APART, TOGETHER, OURS = "LLM.generate", "LLM.generate in one process", "prefsmith"
CPU_ARGS: dict[str, Any] = {
    "dtype": "float32",
    "max_model_len": 512,
    "enforce_eager": True,
    "block_size": 32,
    "kv_cache_memory_bytes": 64 << 20,
    "distributed_executor_backend": "uni",
    "enable_chunked_prefill": False,
    "max_num_seqs": 256,
}
CPU_ENV = {"TORCH_COMPILE_DISABLE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_WAIT_POLICY": "PASSIVE",
           "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}  # fmt: skip


class Cost(NamedTuple):
    """`start_s`: CPU-seconds until the first request can be sent, which are not in `cpu_s`."""

    start_s: float
    cpu_s: float
    wall_s: float
    n_tokens: int


def used_s(pids: list[int]) -> float:
    """CPU-seconds of this process and of these."""
    own = os.times()
    ticks = os.sysconf("SC_CLK_TCK")
    total = own.user + own.system
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def children_of(pid: int) -> list[int]:
    """Whichever thread started them."""
    found = [c for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    return [p for child in map(int, found) for p in (child, *children_of(child))]


def raw(model: str, args: dict[str, Any], prompts: Path, max_tokens: int) -> Cost:
    from vllm import LLM, SamplingParams

    llm = LLM(model, generation_config="vllm", **args)
    texts = [json.loads(line)["prompt"] for line in prompts.read_text().splitlines()]
    sampling = [
        SamplingParams(n=N, temperature=TEMPERATURE, max_tokens=max_tokens, seed=i * N) for i in range(len(texts))
    ]
    children = children_of(os.getpid())
    before, started = used_s(children), time.monotonic()
    tokenizer = llm.get_tokenizer()
    rendered = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in texts
    ]
    outputs = llm.generate([{"prompt_token_ids": tokens} for tokens in rendered], sampling, use_tqdm=False)
    n_tokens = sum(len(c.token_ids) for o in outputs for c in o.outputs)
    return Cost(before, used_s(children) - before, time.monotonic() - started, n_tokens)


def ours(recipe: Path, folder: Path) -> Cost:
    from prefsmith.job import run_job
    from prefsmith.progress import Progress
    from prefsmith.recipe import Recipe

    seen: list[tuple[float, float, float, int]] = []
    children: list[int] = []

    def look(progress: Progress) -> None:
        if not children:
            children.extend(children_of(os.getpid()))
        seen.append((used_s(children), used_s([]), time.monotonic(), progress.n_tokens))

    code = run_job(Recipe.model_validate_json(recipe.read_text()), folder, on_progress=look, say=lambda _: None)
    if code:
        raise SystemExit(code)
    (before, _, started, _), (after, alone, ended, n_tokens) = seen[0], seen[-1]
    # The engine is gone by now; what came after it (the file) is this process's alone. The time ends with the last
    # answer, for to stop the engine takes seconds.
    return Cost(before, after - before + used_s([]) - alone, ended - started, n_tokens)


def tireless(folder: Path) -> Path:
    """The bundled model without its end of text."""
    shutil.copytree(TINY, folder)
    for name in ("config.json", "generation_config.json"):
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(values | {"eos_token_id": values["pad_token_id"]}))
    values = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(values | {"eos_token": values["pad_token"]}))
    return folder


def child(words: list[str], more: dict[str, str]) -> Cost:
    told = {**os.environ, **env(), **more}
    done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True, env=told)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def on_cpu() -> bool:
    try:
        return "cpu" in version("vllm")
    except PackageNotFoundError:
        return False


def env() -> dict[str, str]:
    return CPU_ENV if on_cpu() else {}


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--prompts", type=int, default=2000)
    asked.add_argument("--model", help="a folder or a name; default the bundled one")
    asked.add_argument("--as-trained", action="store_true")
    asked.add_argument("--max-tokens", type=int, default=32)
    asked.add_argument("--args", type=json.loads, default=CPU_ARGS if on_cpu() else {})
    given = asked.parse_args()
    rounds: dict[str, list[Cost]] = {}
    with scratch() as place:
        prompts = wrote_prompts(place / "prompts.jsonl", given.prompts)
        model = given.model or str(TINY if given.as_trained else tireless(place / "tireless"))
        engine = {"args": given.args, "env": env()}
        sample = {"model": f"local:{model}", "temperature": TEMPERATURE, "n": N, "max_tokens": given.max_tokens}
        recipe = wrote_recipe(
            place / "recipe.json",
            {"prompts": {"path": str(prompts)}, "endpoints": {"local": {"vllm": engine}}, "sample": [sample],
             "judge": [{"use": "contains", "text": "e"}], "export": ["trl"]},
        )  # fmt: skip
        raw_words = ["raw", model, json.dumps(given.args), str(prompts), str(given.max_tokens)]
        for i in range(given.repeat):
            asked_of = {APART: (raw_words, {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"})}
            if on_cpu():
                asked_of[TOGETHER] = (raw_words, {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"})
            asked_of[OURS] = (["ours", str(recipe), str(place / f"run-{i}")], {})
            for name, (words, more) in asked_of.items():
                rounds.setdefault(name, []).append(child(words, more))
                print(f"round {i + 1}: {name}: {rounds[name][-1]}", file=sys.stderr)
    report(rounds, given.prompts)


def report(rounds: dict[str, list[Cost]], n_prompts: int) -> None:
    print(f"\n{n_prompts} prompts, n = {N}, medians of {len(rounds[OURS])} interleaved rounds\n")
    print("| | CPU-s, client and engine | ms a prompt | tokens | tokens/s | start, CPU-s |\n|---|---|---|---|---|---|")
    for name, side in rounds.items():
        cpu_s = statistics.median(c.cpu_s for c in side)
        rate = statistics.median(c.n_tokens / c.wall_s for c in side)
        start_s = statistics.median(c.start_s for c in side)
        told = (f"{cpu_s:.1f}", f"{cpu_s / n_prompts * 1e3:.1f}", f"{side[0].n_tokens:,}", f"{rate:,.0f}")
        print(f"| {name} | {' | '.join(told)} | {start_s:.0f} |")
    for name in rounds.keys() - {OURS}:
        pairs = [*zip(rounds[name], rounds[OURS], strict=True)]
        cpu = statistics.median(b.cpu_s / b.n_tokens / (a.cpu_s / a.n_tokens) for a, b in pairs)
        speed = statistics.median(b.n_tokens / b.wall_s / (a.n_tokens / a.wall_s) for a, b in pairs)
        met = "met" if cpu <= GOAL_CPU else "MISSED"
        print(f"\nprefsmith / {name}: CPU a token {cpu:.3f} (goal {GOAL_CPU}: {met}), tokens/s {speed:.2f} (goal on a "
              f"GPU: {GOAL_TOKENS}); pairs {', '.join(f'{b.cpu_s / a.cpu_s:.3f}' for a, b in pairs)}")  # fmt: skip


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["raw", model, args, prompts, max_tokens]:
            print(json.dumps(raw(model, json.loads(args), Path(prompts), int(max_tokens))._asdict()))
        case ["ours", recipe, folder]:
            print(json.dumps(ours(Path(recipe), Path(folder))._asdict()))
        case _:
            main()
