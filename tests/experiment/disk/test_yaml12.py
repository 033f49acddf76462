from pathlib import Path

import pytest

from experiment.disk.yaml12 import dump_yaml, read_scalar, read_yaml, read_yaml_file
from projheads.errors import ProjheadsError

LAUGHS = "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 10)}]\n" for last, name in zip("abcdefg", "bcdefgh", strict=True)
)


# The table is YAML 1.2.2's core schema (section 10.3.2); YAML 1.1 reads the marked ones otherwise.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),  # a string in YAML 1.1
        ("1.5E+3", 1500.0),
        (".5", 0.5),
        ("no", "no"),  # False in YAML 1.1
        ("on", "on"),
        ("true", True),
        ("010", 10),  # 8 in YAML 1.1
        ("1_000", "1_000"),
        ("12:30", "12:30"),  # 750 in YAML 1.1
        ("2020-01-01", "2020-01-01"),
        ("~", None),
        ("", None),
        ("-.inf", float("-inf")),
        ("'1'", "1"),
        ("[1, a]", [1, "a"]),
        ("0o17", 15),  # a string in YAML 1.1
        ("0x1F", 31),
        ("0b1", "0b1"),  # 1 in YAML 1.1
        ("!!int 3", 3),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    read = read_scalar(text, "here")
    assert read == value
    assert type(read) is type(value)


def test_lines_of_every_value():
    _, lines = read_yaml("a: 1\nb:\n  - x\n  - y: 2\n", "file")
    assert lines[("a",)] == 1
    assert lines[("b", 1)] == 4
    assert lines[("b", 1, "y")] == 4


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\na: 2\n", 2, "is listed twice"),
        ("a: 1\nb: [1\n", 3, "not valid YAML"),
        ("a:\n  1: x\n", 2, "not a string"),
        ("a: !!python/object:os.system x\n", 1, "not valid YAML"),
        ("a: *gone\n", 1, "undefined alias"),
        ("&a [*a]", 1, "aliases make it too large"),
        ("a: 1\nb: &b {c: *b}\n", 2, "aliases make it too large"),
        ("a: &a [x, x, x, x, x, x, x, x, x, x]\n" + LAUGHS, 1, "aliases make it too large"),
        ("[" * 5000, 1, "nested too deeply"),
        ("a:\n  " + "- " * 5000, 2, "nested too deeply"),
        ("a: !!bool maybe\n", 1, "'maybe' is not of the type bool"),
        ("a: !!timestamp x\n", 1, "cannot be used here"),
        ("? [a]\n: b\n", 1, "cannot be used here"),
        ("a: b\nc: \x00\n", 2, r"U\+0000 is not allowed"),
        ('a: "\\ud800"', 1, "half of a surrogate pair"),
        ("9" * 5000, 1, "is out of range"),
        ("0x" + "f" * 5000, 1, "is out of range"),
    ],
)
def test_mistakes_name_the_line(text, line, words):
    with pytest.raises(ProjheadsError, match=words) as caught:
        read_yaml(text, "some.yaml")
    assert str(caught.value).startswith(f"some.yaml:{line}: ")


@pytest.mark.parametrize(
    "text", ["1e-4", "1e3", "0o17", "on", "null", "", "\x85", "a\u2028b\n", " x", "\ufeff", "=", "<<"]
)
def test_a_string_that_looks_like_something_else_is_read_back(text):
    assert read_yaml(dump_yaml({"a": [text], text or "b": 1e-5}), "file")[0] == {"a": [text], text or "b": 1e-5}


def test_a_file_without_end_is_refused():
    with pytest.raises(ProjheadsError, match="/dev/zero: too long"):
        read_yaml_file(Path("/dev/zero"))
