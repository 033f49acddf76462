"""YAML by the rules of YAML 1.2, read with the line of every value.

PyYAML follows YAML 1.1, where ``1e-4`` is a string and ``no`` is False. Here ``1e-4`` is a number, ``no`` is a string,
and a repeated key is an error. Source of the rules: YAML 1.2.2, section 10.3.2, "Core schema: tag resolution".
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from projheads.errors import ProjheadsError, cannot_read

__all__ = ["DEEPEST", "Lines", "dump_yaml", "read_scalar", "read_yaml", "read_yaml_file"]

Lines = dict[tuple[str | int, ...], int]
"""The line of each value, counted from 1, by the keys and indices that lead to it."""

LONGEST, DEEPEST, MOST = 2**20, 32, 100_000
"""Characters of a document, levels of nesting, and values once aliases are expanded: far more than any needs."""


def _integer(text: str) -> int:
    number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) <= 64 else 2**64
    if abs(number) >= 2**63:
        raise ValueError("is out of range; the largest integer is 9223372036854775807")
    return number


def _special_float(text: str) -> float:
    return float(text.replace(".", ""))


_TAG = "tag:yaml.org,2002:"
_CORE_SCHEMA: tuple[tuple[str, str, str, Callable[[str], Any]], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN", lambda text: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789", _integer),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789", float),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.", _special_float),
)
"""Kind, pattern, first characters and conversion of every scalar but a string."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"nested too deeply: over {DEEPEST} levels", problem_mark=self.get_mark()
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML's other styles turn U+0085 and U+2028 into line feeds.
        return self.represent_scalar(f"{_TAG}str", data, style=None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_str)

for _kind, _pattern, _first, _ in _CORE_SCHEMA:
    for _user in (_Loader, _Dumper):
        # PyYAML looks up the patterns by the first character, "" for an empty scalar.
        _firsts = [*_first, ""] if _kind == "null" else list(_first)
        _user.add_implicit_resolver(_TAG + _kind, re.compile(rf"^(?:{_pattern})\Z"), _firsts)


def read_yaml_file(path: Path) -> tuple[str, Any, Lines]:
    """Read a file with one YAML document.

    Returns:
        Its text, its value, and the line of each part of the value.

    Raises:
        ProjheadsError: If it cannot be read, or as ``read_yaml`` does.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
        if len(data) > LONGEST:
            raise ProjheadsError(f"{path}: too long for a configuration: over {LONGEST} bytes")
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProjheadsError(f"{path}: not a text file in UTF-8 (byte {error.start + 1} is invalid)") from None
    except OSError as error:
        raise cannot_read(path, error) from None
    return text, *read_yaml(text, str(path))


def read_yaml(text: str, where: str) -> tuple[Any, Lines]:
    """Read one YAML document.

    Args:
        text: The document.
        where: Name of its source, with which every error begins.

    Returns:
        The value, and the line of each of its parts.

    Raises:
        ProjheadsError: If the text is not YAML, a mapping has a key twice, or it is too large, also because of aliases.
    """
    if len(text) > LONGEST:
        raise ProjheadsError(f"{where}: too long for a configuration: over {LONGEST} characters")
    try:
        node = _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"the character U+{error.character:04X} is not allowed"
        raise ProjheadsError(f"{where}:{line}: not valid YAML: {what}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        problem = getattr(error, "problem", None) or str(error)
        raise ProjheadsError(f"{place}: not valid YAML: {problem}") from None
    except (ValueError, OverflowError):  # PyYAML passes on what chr() raises.
        raise ProjheadsError(f"{where}: not valid YAML: an escape beyond U+10FFFF is not a character") from None
    lines: Lines = {}
    return None if node is None else _value(node, (), lines, where), lines


def read_scalar(text: str, where: str) -> Any:
    """Read the value after ``key=`` on a command line: a number, a list, a string ..."""
    return read_yaml(text, where)[0]


def dump_yaml(value: Any) -> str:
    """Write a JSON value as YAML; ``read_yaml`` reads back an equal one."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _value(node: yaml.Node, place: tuple[str | int, ...], lines: Lines, where: str) -> Any:
    lines[place] = node.start_mark.line + 1
    here = f"{where}:{lines[place]}"
    if len(place) > DEEPEST or len(lines) > MOST:
        raise ProjheadsError(f"{here}: not valid YAML: aliases make it too large")
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = _scalar(key_node, f"{where}:{line}")
            if not isinstance(key, str):
                raise ProjheadsError(f"{where}:{line}: the key {key_node.value!r} is not a string; put it in quotes")
            if key in mapping:
                raise ProjheadsError(f'{where}:{line}: the key "{key}" is listed twice; remove one')
            mapping[key] = _value(value_node, (*place, key), lines, where)
            lines[(*place, key)] = line
        return mapping
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
        return [_value(item, (*place, index), lines, where) for index, item in enumerate(node.value)]
    return _scalar(node, here)


def _scalar(node: yaml.Node, here: str) -> Any:
    tag = node.tag.removeprefix(_TAG)
    if not isinstance(node, yaml.ScalarNode) or tag not in ("str", "null", "bool", "int", "float"):
        what = f"the tag {node.tag!r}" if isinstance(node, yaml.ScalarNode) else "this list or mapping"
        raise ProjheadsError(f"{here}: not valid YAML: {what} cannot be used here")
    text: str = node.value
    if tag == "str":
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
            raise ProjheadsError(f"{here}: not valid YAML: {text!a} holds NUL or half of a surrogate pair")
        return text
    for kind, pattern, _, read in _CORE_SCHEMA:
        if kind == tag and re.fullmatch(pattern, text):
            try:
                return read(text)
            except ValueError as error:
                raise ProjheadsError(f"{here}: {text[:40]} {error}") from None
    raise ProjheadsError(f"{here}: not valid YAML: {text[:40]!r} is not of the type {tag}")
