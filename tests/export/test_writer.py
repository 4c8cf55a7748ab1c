from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from prefsmith.errors import MachineError, UsageError
from prefsmith.export import FORMATS, Naming, write
from prefsmith.export.files import sha256_of
from prefsmith.outcomes import Record

# A writer in a process of its own: many records through the real code, told what to do by its arguments.
CHILD = """
import random, resource, sys, time
from pathlib import Path
from prefsmith.errors import MachineError
from prefsmith.export import Naming, write
from prefsmith.outcomes import Pair, Record, Sample
from prefsmith.records import Item, Prompt

mode, folder, formats = sys.argv[1], Path(sys.argv[2]), sys.argv[3].split(",")

def records():
    for i in range(3000):
        if mode == "hang" and i == 2500:
            print("writing", flush=True)
            time.sleep(60)
        sides = tuple(Sample((1, k), {"role": "assistant", "content": f"{random.getrandbits(2000):x}"}, "stop", 9,
                             scores={1: 1.0 - k}) for k in range(2))
        item = Item(Prompt(({"role": "user", "content": f"q {i}"},)))
        yield Record(f"{i:032x}", f"{i:032x}", item, None, sides, (Pair((1, 0), (1, 1), 1.0, 0.0, 1, "r"),), None)

if mode == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    write(records(), formats, folder, Naming({1: {"model": "m"}}, {1: "j"}))
except MachineError as err:
    print(f"{err.exit_code} {err}")
"""


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_format_is_written_in_one_pass(gallery: list[Record], names: Naming, tmp_path: Path) -> None:
    written = write(iter(gallery), list(FORMATS), tmp_path, names)
    assert [w.format for w in written] == list(FORMATS)
    assert sorted(files(tmp_path)) == sorted(file for f in FORMATS.values() for file in f.files)
    for w in written:
        assert w.path == tmp_path / FORMATS[w.format].file
        assert w.sha256 == sha256_of(w.path)


def test_each_pair_is_a_row_or_skipped_with_its_reason(
    gallery: list[Record], record: Callable[..., Record], names: Naming, tmp_path: Path
) -> None:
    run = record([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    records = [*gallery, run, record("blank", ("x", " ")), record("same", ("y", "y "))]
    n_pairs = sum(len(whole.pairs) for whole in records)
    trl, openai, parquet = write(records, ["trl", "openai", "parquet"], tmp_path, names)
    assert trl.skipped == {"blank_completion": 1, "identical": 1, "same_pair": 1, "user_run": 1}
    assert openai.skipped == parquet.skipped == {"blank_completion": 1, "identical": 1, "same_pair": 1}
    assert [w.n_rows + sum(w.skipped.values()) for w in (trl, openai)] == [n_pairs, n_pairs]
    assert [w.path.read_bytes().count(b"\n") for w in (trl, openai)] == [trl.n_rows, openai.n_rows]


def test_a_control_token_skips_the_pair_in_trainers_files_only(
    record: Callable[..., Record], names: Naming, tmp_path: Path
) -> None:
    told = replace(names, control_tokens=("<|im_end|>",))
    trl, parquet = write([record("a <|im_end|> b")], ["trl", "parquet"], tmp_path, told)
    assert (trl.n_rows, trl.skipped) == (0, {"control_token": 1})
    assert (parquet.n_rows, parquet.skipped) == (2, {})


def test_lines_end_at_newlines_only_and_nothing_is_escaped_that_need_not_be(
    gallery: list[Record], names: Naming, tmp_path: Path
) -> None:
    for w in write(gallery, ["trl", "openai"], tmp_path, names):
        raw = w.path.read_bytes()
        assert raw.endswith(b"}\n") and b"\n\n" not in raw and not raw.startswith(b"\xef\xbb\xbf")
        assert "„neu“" in raw.decode() and "\u2028" in raw.decode() and "👍" in raw.decode()
        assert len([orjson.loads(line) for line in raw.split(b"\n")[:-1]]) == w.n_rows


def test_writing_twice_gives_the_same_bytes(gallery: list[Record], names: Naming, tmp_path: Path) -> None:
    first = write(gallery, list(FORMATS), tmp_path / "a", names)
    again = write(gallery, list(FORMATS), tmp_path / "b", names)
    assert [w.sha256 for w in first] == [w.sha256 for w in again]
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_ids_of_the_ledger_are_in_no_file(gallery: list[Record], names: Naming, tmp_path: Path) -> None:
    def moved(whole: Record) -> Record:
        samples = tuple(
            s._replace(key=(s.key[0] + 40, s.key[1]), scores={j + 40: v for j, v in s.scores.items()})
            for s in whole.samples
        )
        pairs = tuple(
            p._replace(chosen=(p.chosen[0] + 40, p.chosen[1]), rejected=(p.rejected[0] + 40, p.rejected[1]), judge=47)
            for p in whole.pairs
        )
        return replace(whole, samples=samples, pairs=pairs)

    elsewhere = Naming({k + 40: v for k, v in names.samplers.items()}, {k + 40: v for k, v in names.judges.items()})
    write(gallery, list(FORMATS), tmp_path / "a", names)
    write(map(moved, gallery), list(FORMATS), tmp_path / "b", elsewhere)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_an_error_in_the_stream_leaves_the_old_files_and_nothing_else(
    gallery: list[Record], record: Callable[..., Record], names: Naming, tmp_path: Path
) -> None:
    def broken() -> Iterator[Record]:
        for i in range(1500):
            yield record(f"q {i}")
        raise RuntimeError("the ledger went away")

    write(gallery, list(FORMATS), tmp_path, names)
    before = files(tmp_path)
    for told in (names, replace(names, has_tools=True)):
        with pytest.raises(RuntimeError, match="went away"):
            write(broken(), list(FORMATS), tmp_path, told)
        assert files(tmp_path) == before


def test_an_unknown_format_is_told_before_anything_is_written(tmp_path: Path, names: Naming) -> None:
    with pytest.raises(UsageError, match=r"'trl-parqet'.*did you mean 'trl-parquet'"):
        write([], ["trl", "trl-parqet"], tmp_path, names)
    assert files(tmp_path) == {}


def test_no_records_make_files_without_rows(names: Naming, tmp_path: Path) -> None:
    assert [(w.n_rows, dict(w.skipped)) for w in write([], list(FORMATS), tmp_path, names)] == [(0, {})] * 4


@pytest.mark.parametrize("formats", ["trl,openai", "parquet", "trl-parquet"])
def test_a_file_that_cannot_grow_is_an_error_of_this_machine_and_the_old_file_stays(
    formats: str, gallery: list[Record], names: Naming, tmp_path: Path
) -> None:
    write(gallery, formats.split(","), tmp_path, names)
    before = files(tmp_path)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, "limit", str(tmp_path), formats], capture_output=True, text=True, timeout=60
    )
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout.startswith("6 cannot write") and "ulimit -f" in child.stdout
    assert files(tmp_path) == before


def test_a_full_disk_is_told_with_what_to_do(names: Naming, gallery: list[Record], tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this machine")
    (tmp_path / "trl").mkdir()
    (tmp_path / "trl" / ".train.jsonl.partial").symlink_to(full)
    from prefsmith.export.files import Partial

    partial = Partial(tmp_path / "trl" / "train.jsonl")
    partial.write(b"x\n")
    with pytest.raises(MachineError, match="the disk is full; free some space"):
        partial.settle()
    partial.discard()
    assert files(tmp_path) == {}


def test_a_folder_that_cannot_be_made_is_an_error_of_this_machine(names: Naming, tmp_path: Path) -> None:
    (tmp_path / "trl").write_text("in the way")
    with pytest.raises(MachineError, match=r"cannot write '.*train\.jsonl'"):
        write([], ["trl"], tmp_path, names)


def test_a_kill_in_the_middle_leaves_the_old_files_and_the_next_write_cleans_up(
    gallery: list[Record], names: Naming, tmp_path: Path
) -> None:
    write(gallery, list(FORMATS), tmp_path, names)
    before = files(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, "hang", str(tmp_path), ",".join(FORMATS)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"writing\n"
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    after = files(tmp_path)
    left = after.keys() - before.keys()
    assert left and all(os.path.basename(name).startswith(".") for name in left)
    assert {name: after[name] for name in before} == before
    write(gallery, ["trl"], tmp_path, names)
    assert files(tmp_path) == before


def test_rows_of_a_large_parquet_file_lie_in_groups(
    record: Callable[..., Record], names: Naming, tmp_path: Path
) -> None:
    from pyarrow.parquet import ParquetFile

    (written,) = write((record(f"q {i}") for i in range(2100)), ["trl-parquet"], tmp_path, names)
    with ParquetFile(written.path) as file:
        assert [file.metadata.row_group(i).num_rows for i in range(3)] == [1000, 1000, 100]


def test_long_texts_end_a_row_group_early(record: Callable[..., Record], names: Naming, tmp_path: Path) -> None:
    from pyarrow.parquet import ParquetFile

    long = "x" * 17_000_000
    (written,) = write((record(f"{i} {long if i < 2 else ''}") for i in range(3)), ["trl-parquet"], tmp_path, names)
    with ParquetFile(written.path) as file:
        assert file.num_row_groups == 2


def test_a_write_of_many_pairs_takes_milliseconds_each_at_most(
    record: Callable[..., Record], names: Naming, tmp_path: Path
) -> None:
    records = [record(f"q {i}", (f"right {i}", f"wrong {i}")) for i in range(1000)]
    began = time.process_time()
    write(records, list(FORMATS), tmp_path, names)
    assert time.process_time() - began < 2.0
