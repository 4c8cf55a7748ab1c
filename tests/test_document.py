import pytest

from prefsmith.document import parse
from prefsmith.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2026-01-31", "2026-01-31"),
        ("010", "010"),
        ("true", True),
        ("2_000_000", 2_000_000),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("-3", -3),
        ("~", None),
        ("", None),
        ("'4'", "4"),
        ("[0.2, 1]", [0.2, 1]),
    ],
)
def test_a_value_is_what_was_typed(text: str, value: object) -> None:
    got = parse(text, "here").value
    assert got == value
    assert type(got) is type(value)


def test_a_key_written_twice_is_refused_with_both_lines() -> None:
    with pytest.raises(UsageError, match=r"r\.yaml:4: key 'n' is written twice \(first on line 2\)"):
        parse("sample:\n  n: 1\n  model: a:b\n  n: 2\n", "r.yaml")


def test_a_merge_key_adds_and_does_not_count_as_twice() -> None:
    assert parse("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}", "r.yaml").value["d"] == {"b": 3, "c": 2}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: 1\nb: [1,\n", "r.yaml:"),
        ("a: 1\nb: *nowhere\n", "r.yaml:2:"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2:"),
        ("a: 1\nb: !!python/object:os.system ls\n", "r.yaml:2:"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(text: str, where: str) -> None:
    with pytest.raises(UsageError, match="not YAML") as caught:
        parse(text, "r.yaml")
    assert str(caught.value).startswith(where)


def test_the_line_of_a_place_is_where_it_is_written() -> None:
    document = parse("prompts:\n  path: x\nsample:\n  - model: a:b\n    n: 4\n  - {model: c:d}\n", "r.yaml")
    assert document.line(("prompts", "path")) == 2
    assert document.line(("sample", 0, "n")) == 5
    assert document.line(("sample", 1, "model")) == 6
    assert document.line(("sample", 1, "absent")) == 6
    assert document.line(()) == 1
