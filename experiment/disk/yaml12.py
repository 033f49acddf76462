"""YAML read by the rules of YAML 1.2, with the line of every value.

PyYAML follows YAML 1.1, where ``1e-4`` is a string and ``no`` is False. Here ``1e-4`` is a number, ``no`` is a string,
and a repeated key is an error. Source of the rules: YAML 1.2.2, section 10.3.2, "Core schema: tag resolution".
"""

import re
from typing import Any

import yaml

from projheads.errors import ProjheadsError

__all__ = ["Lines", "read_scalar", "read_yaml"]

Lines = dict[tuple[str | int, ...], int]
"""The line of each value, counted from 1, by the keys and indices that lead to it."""


class _CoreSchemaLoader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("tag:yaml.org,2002:float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _CoreSchemaLoader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node), 10)


_CoreSchemaLoader.add_constructor("tag:yaml.org,2002:int", _decimal)


def read_yaml(text: str, where: str) -> tuple[Any, Lines]:
    """Read one YAML document.

    Args:
        text: The document.
        where: Name of its source, with which every error begins.

    Returns:
        The value, and the line of each of its parts.

    Raises:
        ProjheadsError: If the text is not YAML, or a mapping has a key twice.
    """
    try:
        loader = _CoreSchemaLoader(text)
        node = loader.get_single_node()
        lines: Lines = {}
        value = None if node is None else _value(node, (), loader, lines, where)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        problem = getattr(error, "problem", None) or str(error)
        raise ProjheadsError(f"{place}: not valid YAML: {problem}") from None
    return value, lines


def read_scalar(text: str, where: str) -> Any:
    """Read the value after ``key=`` on a command line: a number, a list, a string ..."""
    return read_yaml(text, where)[0]


def _value(node: yaml.Node, place: tuple[str | int, ...], loader: Any, lines: Lines, where: str) -> Any:
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ProjheadsError(f"{where}:{line}: the key {key!r} is not a string; put it in quotes")
            if key in mapping:
                raise ProjheadsError(f'{where}:{line}: the key "{key}" is listed twice; remove one')
            mapping[key] = _value(value_node, (*place, key), loader, lines, where)
            lines[(*place, key)] = line
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, index), loader, lines, where) for index, item in enumerate(node.value)]
    try:
        return loader.construct_object(node, deep=True)
    except ValueError as error:
        raise ProjheadsError(f"{where}:{node.start_mark.line + 1}: {error}") from None
