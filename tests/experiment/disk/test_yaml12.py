import pytest

from experiment.disk.yaml12 import read_scalar, read_yaml
from projheads.errors import ProjheadsError


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
    ],
)
def test_mistakes_name_the_line(text, line, words):
    with pytest.raises(ProjheadsError, match=words) as caught:
        read_yaml(text, "some.yaml")
    assert str(caught.value).startswith(f"some.yaml:{line}: ")
