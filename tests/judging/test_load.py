from __future__ import annotations

from pathlib import Path

import pytest

from prefsmith.errors import UsageError
from prefsmith.judging.leaf import ModelJudge
from prefsmith.judging.load import AskedModel, judge_names, load_any, load_judge
from prefsmith.judging.reward import RewardJudge
from prefsmith.records import Sampling
from prefsmith.shelf import shelf

TEXT = "Judge.\n{criteria}\n{prompt}\n{candidate}\nVERDICT: N"
FILE = 'kind = "rubric"\nprompt = "p.txt"\n[criteria]\ngood = "Is it?"\n'
PAIR_TEXT = "{prompt} {first} {second} VERDICT: A"
PAIR = 'kind = "pairwise"\nprompt = "p.txt"\n'


def load(folder: Path, toml: str, text: str | None = TEXT, use: str = "own.toml") -> ModelJudge:
    (folder / "own.toml").write_text(toml)
    if text is not None:
        (folder / "p.txt").write_text(text)
    return load_judge(use, ("t", "m"), "wire", [folder])


def test_the_shelf_works_from_a_checkout_and_each_of_its_judges_loads() -> None:
    names = judge_names()
    assert len(names) >= 15
    for name in names:
        judge = load_any(name, AskedModel("t", "m", "wire"), [])
        assert judge.name == name
        if isinstance(judge, RewardJudge):
            continue
        # A line alone has little room, reasons and a line have more; nothing is drawn.
        room = 16 if judge.logprobs else 12 if name.endswith("-short") else 512
        assert judge.sampling == Sampling(temperature=0.0, max_tokens=room)
        assert (shelf("judges") / f"{name}.toml").read_text("utf-8").startswith("# ")


def test_every_prompt_text_on_the_shelf_belongs_to_a_judge() -> None:
    judges = [load_any(name, AskedModel("t", "m", "wire"), []) for name in judge_names()]
    used = {one.prompt for judge in judges for one in (judge, judge.lister) if one and one.prompt}
    assert used == {path.read_text("utf-8").strip() for path in shelf("prompts").glob("*.txt")}


def test_a_judge_of_ones_own_is_the_same_file_at_another_path(tmp_path: Path) -> None:
    judge = load(tmp_path, FILE + "[sampling]\ntemperature = 1\nmax_tokens = 64\n")
    assert (judge.name, judge.kind, judge.prompt) == ("own", "rubric", TEXT)
    assert (judge.target, judge.model, judge.wire_model) == ("t", "m", "wire")
    assert judge.labels == tuple("123456789")
    assert judge.criteria == (("good", "Is it?"),)
    assert judge.sampling == Sampling(temperature=1.0, max_tokens=64)
    assert load_judge(str(tmp_path / "own.toml"), ("t", "m"), "wire", []) == judge
    assert load_judge("own.toml", ("t", "m"), "wire", [tmp_path / "elsewhere", tmp_path]) == judge


def test_a_judge_of_ones_own_may_use_a_prompt_text_of_the_shelf(tmp_path: Path) -> None:
    judge = load(tmp_path, 'kind = "rubric"\nprompt = "rubric-reference.txt"\nneeds = ["reference"]\n', None)
    assert judge.needs == judge.reads == ("reference",)


def test_the_ends_of_a_prompt_file_and_its_line_ends_are_no_part_of_the_key(tmp_path: Path) -> None:
    one = load(tmp_path, FILE)
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    assert load_judge("own.toml", ("t", "m"), "wire", [tmp_path]).described() == one.described()


def test_columns_that_the_text_names_are_read(tmp_path: Path) -> None:
    judge = load(tmp_path, PAIR + 'needs = ["tests"]\n', "{category} {tests} " + PAIR_TEXT)
    assert (judge.reads, judge.needs) == (("category", "tests"), ("tests",))


def test_a_pairwise_judge_may_have_no_tie_and_one_drawn_order(tmp_path: Path) -> None:
    judge = load(tmp_path, PAIR + 'choices = ["A", "B"]\norders = "both"\n', PAIR_TEXT)
    assert (judge.labels, judge.orders) == (("A", "B"), "both")


@pytest.mark.parametrize(
    ("toml", "text", "said"),
    [
        (FILE.replace("prompt =", "promt ="), TEXT, ["unknown key 'promt'", "'prompt'"]),
        (FILE + "[sampling]\ntemprature = 0.0\n", TEXT, ["[sampling]", "'temprature'", "'temperature'"]),
        (FILE + '[model]\nname = "x"\n', TEXT, ["[model]", "'target' is missing"]),
        (FILE.replace("rubric", "rubrik"), TEXT, ["kind = 'rubrik'", "did you mean 'rubric'"]),
        ('prompt = "p.txt"\n', TEXT, ["'kind' is missing"]),
        (FILE + "[sampling]\nmax_tokens = 0\n", TEXT, ["max_tokens = 0", "greater than"]),
        (FILE + '[sampling]\nmax_tokens = "9"\n', TEXT, ["max_tokens = '9'"]),
        ("kind = rubric\n", TEXT, ["not valid TOML", "line 1"]),
        (FILE, None, ["no prompt text 'p.txt'", "known: "]),
        (FILE.replace("p.txt", "rubric-hlp.txt"), None, ["did you mean 'rubric-help.txt'"]),
        (FILE, " \n", ["is empty"]),
        (FILE, TEXT + "{referense}", ["{referense}", "did you mean 'reference'", "`needs`"]),
        (FILE, TEXT.replace("{candidate}", "{Candidate}"), ["{Candidate}"]),
        (FILE, TEXT.replace("{candidate}", ""), ["{candidate} exactly once, not 0"]),
        (FILE, TEXT + "{prompt}", ["{prompt} exactly once, not 2"]),
        (FILE, "{criteria} {candidate} {prompt} VERDICT: N", ["{candidate} last"]),
        (FILE, "{prompt} {criteria} {candidate} VERDICT: N", ["{criteria} comes before {prompt}"]),
        (PAIR, "{prompt} {second} {first} VERDICT: A", ["{first}, {second} last"]),
        (FILE, TEXT.replace("{criteria}", ""), ["[criteria] belong together"]),
        (FILE.split("[criteria]")[0], TEXT, ["[criteria] belong together"]),
        (FILE, TEXT.replace("VERDICT:", "Score:"), ["VERDICT:"]),
        ('needs = ["reference"]\n' + FILE, TEXT, ["needs 'reference'", "{reference}"]),
        ('needs = ["Ref-1"]\n' + FILE, TEXT, ["'Ref-1'", "a-z and _"]),
        ('choices = ["1", "2", "10"]\n' + FILE, TEXT, ["'10' is not one digit", "token of 1"]),
        ('choices = ["1", "2", "3"]\n' + FILE, TEXT, ["expected ['1', '2'"]),
        (f"choices = {[*'987654321']}\n" + FILE, TEXT, ["expected ['1', '2'"]),
        (PAIR + 'choices = ["B", "A"]\n', PAIR_TEXT, ["A for the first answer"]),
        ('orders = "both"\n' + FILE, TEXT, ["orders belongs to a pairwise judge"]),
        (PAIR + 'orders = "bth"\n', PAIR_TEXT, ["did you mean 'both'"]),
    ],
)
def test_what_is_wrong_with_a_judge_file_is_told_with_its_place(
    tmp_path: Path, toml: str, text: str | None, said: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, toml, text)
    message = str(caught.value)
    assert "own.toml" in message or "p.txt" in message
    assert all(part in message for part in said), message


def test_an_unknown_judge_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'rubric-hlep'; did you mean 'rubric-help'\?"):
        load_judge("rubric-hlep", ("t", "m"), "wire", [])
    with pytest.raises(UsageError, match="known: "):
        load_judge("../judges/rubric-help", ("t", "m"), "wire", [tmp_path])
    with pytest.raises(UsageError, match=r"no judge file 'gone\.toml'; looked for .*gone\.toml"):
        load_judge("gone.toml", ("t", "m"), "wire", [tmp_path])


def test_a_file_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(b"kind = '\xff'")
    with pytest.raises(UsageError, match=r"own\.toml is not UTF-8"):
        load_judge("own.toml", ("t", "m"), "wire", [tmp_path])
