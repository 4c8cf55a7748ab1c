from pathlib import Path

from prefsmith.backends.files import folder_sha256


def checkpoint(folder: Path, weights: bytes = b"w" * 100_000) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_two_checkpoints_of_one_training_differ_though_names_and_sizes_are_equal(tmp_path: Path) -> None:
    first, second = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b", b"v" * 100_000)
    assert folder_sha256(first) != folder_sha256(second)
    assert folder_sha256(first) == folder_sha256(checkpoint(tmp_path / "c"))


def test_what_training_and_people_leave_in_a_folder_does_not_count(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a")
    before = folder_sha256(folder)
    for name in ("optimizer.pt", "trainer_state.json", "README.md", "events.out.tfevents.1"):
        (folder / name).write_text("x")
    assert folder_sha256(folder) == before
    (folder / "tokenizer.json").write_text("{}")
    assert folder_sha256(folder) != before


def test_of_a_large_file_size_and_pieces_count(tmp_path: Path) -> None:
    def digest(name: str, content: bytes) -> str:
        return folder_sha256(checkpoint(tmp_path / name, content), whole_bytes=10_000)

    weights = bytearray(b"w" * 3_000_000)
    before = digest("a", weights)
    weights[-1] = 0
    assert digest("b", weights) != before
    weights[-1] = ord("w")
    weights[1_500_000:1_520_000] = bytes(20_000)
    assert digest("c", weights) != before
    assert digest("d", b"w" * 3_000_001) != before
