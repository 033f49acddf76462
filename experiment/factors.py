"""Variants written as a grid: ``ffn(depth={2,3}, activation={identity,gelu})`` is four heads and two factors."""

import itertools
import json
import re
from typing import Any

from experiment.fields import check_combinations
from projheads.errors import ProjheadsError
from projheads.spec import HeadSpec, OptionValue

__all__ = ["cells", "expand", "factors_of", "head_key", "is_grid", "level_of"]

_OPTION = re.compile(r"([a-z][a-z0-9_]*)\s*=\s*$")


def is_grid(variant: object) -> bool:
    """Return whether a variant of the YAML is a grid."""
    return isinstance(variant, str) and any(brace in variant for brace in "{}")


def expand(template: str) -> list[str]:
    """List the heads of a grid as text; the last factor changes fastest.

    Raises:
        ProjheadsError: If the braces are malformed; the message gives the position, counted from 1.
    """
    fixed, levels = _parse(template)
    check_combinations(levels.values())
    heads = []
    for cell in itertools.product(*levels.values()):
        between = itertools.chain.from_iterable(zip(cell, fixed[1:], strict=True))
        heads.append("".join([fixed[0], *between]))
    return heads


def factors_of(template: str) -> dict[str, list[str]]:
    """Return the levels of each factor of a grid, as the grid writes them.

    Raises:
        ProjheadsError: If the braces are malformed.
    """
    return {option: [level.strip("\"'") for level in levels] for option, levels in _parse(template)[1].items()}


def cells(template: str) -> dict[str, dict[str, str]]:
    """Return the heads of a grid by their key, each with its level of every factor.

    Raises:
        ProjheadsError: If the braces or a head are malformed.
    """
    factors = factors_of(template)
    levels = itertools.product(*factors.values())
    keys = [head_key(text) for text in expand(template)]
    return {key: dict(zip(factors, cell, strict=True)) for key, cell in zip(keys, levels, strict=True)}


def head_key(text: str) -> str:
    """Return a key that is the same for every way to write a head, such as ``factor=2`` and ``factor=2.0``.

    Raises:
        ProjheadsError: If the text is malformed.
    """
    return json.dumps(_with_floats(HeadSpec.parse(text).to_dict()), sort_keys=True)


def _with_floats(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"name", "options"} and not value["options"]:
            return value["name"]  # a head without options may be written with or without brackets
        return {name: _with_floats(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_floats(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def level_of(spec: HeadSpec, option: str) -> OptionValue:
    """Return a head's value of an option, which may be one of a head inside it; None if it is not given."""
    if option in spec.options:
        return spec.options[option]
    inner = (level_of(value, option) for value in spec.options.values() if isinstance(value, HeadSpec))
    return next((level for level in inner if level is not None), None)


def _parse(template: str) -> tuple[list[str], dict[str, list[str]]]:
    """Split a grid into the text around its braces and the levels in them."""
    fixed, factors, start = [""], {}, 0
    for found in re.finditer(r"[{}]", template):
        place = found.start()
        if place < start:
            continue
        fixed[-1] += template[start:place]
        option, end = _OPTION.search(fixed[-1]), template.find("}", place)
        if found.group() == "}":
            raise _error(template, place, "this brace closes nothing")
        if option is None:
            raise _error(template, place, "braces hold the values of an option, such as depth={2,3}")
        if end < 0 or "{" in template[place + 1 : end]:
            raise _error(template, place, "this brace is not closed; write the values as in depth={2,3}")
        name, levels = option.group(1), _split(template[place + 1 : end])
        if len(levels) < 2 or "" in levels:
            raise _error(template, place, f"{name} needs at least two values, separated by commas")
        if len(set(levels)) < len(levels):
            raise _error(template, place, f"{name} lists a value twice; remove one")
        if name in factors:
            raise _error(template, place, f"{name} is varied twice; write one of its values for each head")
        factors[name] = levels
        fixed.append("")
        start = end + 1
    fixed[-1] += template[start:]
    return fixed, factors


def _split(values: str) -> list[str]:
    """Split at the commas outside parentheses."""
    parts, depth = [""], 0
    for letter in values:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _error(template: str, place: int, message: str) -> ProjheadsError:
    return ProjheadsError(f"grid {template!r}, character {place + 1}: {message}")
