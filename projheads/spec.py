"""The name and options of a head, as text, JSON and a folder name. Does not import torch."""

import ast
import hashlib
import json
import keyword
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn, TypeAlias, Union

from projheads.errors import ProjheadsError

__all__ = ["HeadSpec", "OptionValue", "to_text"]

OptionValue: TypeAlias = Union[bool, int, float, str, tuple["OptionValue", ...], "HeadSpec", None]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}
# Values that are unambiguous without quotes: words other than true, false and none, and unsigned numbers.
_PLAIN_IN_SLUG = re.compile(r'true|false|none|[0-9]+(\.[0-9]+)?|"(?!(true|false|none)")[a-z_][a-z0-9_]*"')
_SLUG_LENGTH = 100


@dataclass(frozen=True, eq=False)
class HeadSpec:
    """A head's registered name and the options that differ from its defaults.

    The text form, ``ffn(depth=2, activation="gelu")``, parses back to an equal spec. Specs are equal if their names and
    options are, regardless of the order of the options. :func:`projheads.registry.check_spec`, not this class, checks
    whether the name and options exist.

    Attributes:
        name: Lower-case name of a registered head or preset.
        options: Options by name; lists become tuples, and the mapping is read-only.

    Raises:
        ProjheadsError: If a name contains anything but lower-case letters, digits and underscores or is a Python
            keyword, or if a value has an unsupported type.
    """

    name: str
    options: Mapping[str, OptionValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_name("head", self.name)
        for option in self.options:
            _check_name("option", option)
        frozen = {option: _freeze(option, value) for option, value in self.options.items()}
        object.__setattr__(self, "options", MappingProxyType(frozen))

    @classmethod
    def parse(cls, text: str) -> "HeadSpec":
        """Parse the text form: ``linear``, ``ffn(depth=2)``, ``residual(inner=glu(activation="silu"), scale=0.5)``.

        Values are numbers, ``true``, ``false``, ``none``, quoted or bare words, tuples ``(1536, 768)`` and nested
        heads, which require parentheses: ``glu()``.

        Raises:
            ProjheadsError: If the text is malformed; the message gives the position, counted from 1.
        """
        return _Parser(text).spec()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "HeadSpec":
        """Create a spec from the output of :meth:`to_dict`, as read from JSON.

        Raises:
            ProjheadsError: If a key is missing or unknown, or a value has an unsupported type.
        """
        if not isinstance(data.get("name"), str) or not isinstance(data.get("options", {}), Mapping):
            raise ProjheadsError(f'a head must be written as {{"name": ..., "options": {{...}}}}, not {dict(data)!r}')
        unknown = sorted(str(key) for key in set(data) - {"name", "options"})
        if unknown:
            raise ProjheadsError(f'head "{data["name"]}": unknown key "{unknown[0]}"; known: name, options')
        return cls(data["name"], data.get("options", {}))

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"name": ..., "options": {...}}`` with JSON types; nested specs have the same form."""
        return {"name": self.name, "options": {option: _to_json(value) for option, value in self.options.items()}}

    @property
    def slug(self) -> str:
        """A unique folder name: ``ffn-activation=gelu-depth=2``.

        Options are in alphabetical order. If a value cannot be part of a folder name, a hash of the spec follows the
        readable part.
        """
        values = {option: to_text(value) for option, value in sorted(self.options.items())}
        words = "-".join([self.name, *(f"{option}={value}" for option, value in values.items())])
        readable = re.sub(r"[^a-z0-9_.=]+", "-", words.lower().replace('"', ""))
        if len(readable) <= _SLUG_LENGTH and all(map(_PLAIN_IN_SLUG.fullmatch, values.values())):
            return readable
        digest = hashlib.sha256(self._canonical.encode()).hexdigest()[:10]
        return f"{readable[: _SLUG_LENGTH - 11].rstrip('-')}-{digest}"

    @property
    def _canonical(self) -> str:
        return _call(self.name, dict(sorted(self.options.items())), canonical=True)

    def __str__(self) -> str:
        return _call(self.name, self.options) if self.options else self.name

    def __repr__(self) -> str:
        return f"HeadSpec.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self._canonical == other._canonical if isinstance(other, HeadSpec) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._canonical)

    def __reduce__(self) -> tuple[type["HeadSpec"], tuple[str, dict[str, OptionValue]]]:
        return HeadSpec, (self.name, dict(self.options))


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ProjheadsError(
            f'{kind} name "{name}": use lower-case letters, digits and underscores, letter first, and no Python keyword'
        )


def _freeze(option: str, value: Any) -> OptionValue:
    if isinstance(value, list | tuple):
        return tuple(_freeze(option, item) for item in value)
    if isinstance(value, Mapping):
        return HeadSpec.from_dict(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ProjheadsError(f'option "{option}": {value} is not a finite number')
    if value is None or isinstance(value, bool | int | float | str | HeadSpec):
        return value
    raise ProjheadsError(f'option "{option}": {value!r} must be a number, string, boolean, tuple or head')


def _to_json(value: OptionValue) -> Any:
    if isinstance(value, HeadSpec):
        return value.to_dict()
    return [_to_json(item) for item in value] if isinstance(value, tuple) else value


def _call(name: str, options: Mapping[str, OptionValue], *, canonical: bool = False) -> str:
    return (
        f"{name}({', '.join(f'{option}={to_text(value, canonical=canonical)}' for option, value in options.items())})"
    )


def to_text(value: OptionValue, *, canonical: bool = False) -> str:
    """Return an option's value as written in a spec.

    Args:
        value: The value.
        canonical: Whether to sort the options of nested heads alphabetically.
    """
    if isinstance(value, HeadSpec):
        return value._canonical if canonical else _call(value.name, value.options)
    if isinstance(value, tuple):
        items = [to_text(item, canonical=canonical) for item in value]
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if value is None or isinstance(value, bool) else repr(value)


class _Parser:
    """Python's grammar for calls and literals, restricted to what a spec can contain."""

    def __init__(self, text: str) -> None:
        self.text = text.strip().replace("\n", " ")

    def spec(self) -> HeadSpec:
        if not self.text:
            raise ProjheadsError("a head's text is empty; write a name such as linear")
        try:
            node = ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            self.fail(error.offset or 1, error.msg)
        except (ValueError, RecursionError, MemoryError) as error:
            self.fail(1, str(error) or "too deeply nested")
        if isinstance(node, ast.Name):
            return HeadSpec(node.id)
        if isinstance(node, ast.Call):
            return self.call(node)
        self.fail(self.position(node), "expected a head such as linear or ffn(depth=2)")

    def call(self, node: ast.Call) -> HeadSpec:
        if not isinstance(node.func, ast.Name):
            self.fail(self.position(node.func), "expected the name of a head before the parenthesis")
        if node.args:
            self.fail(self.position(node.args[0]), "expected option=value, such as depth=2")
        options: dict[str, OptionValue] = {}
        for given in node.keywords:
            if given.arg is None:
                self.fail(self.position(given), "expected option=value, such as depth=2")
            if given.arg in options:
                self.fail(self.position(given), f"{given.arg} is given twice")
            options[given.arg] = self.value(given.value)
        return HeadSpec(node.func.id, options)

    def value(self, node: ast.expr) -> OptionValue:
        match node:
            case ast.Call():
                return self.call(node)
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return tuple(self.value(item) for item in items)
            case ast.Name(id=word):
                return _WORDS.get(word, word)
            case ast.Constant(value=bool() | int() | float() | str() | None as constant):
                return constant
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
        self.fail(self.position(node), "expected a number, a word, true, false, none, a tuple or a head")

    def position(self, node: ast.expr | ast.keyword) -> int:
        return len(self.text.encode()[: node.col_offset].decode()) + 1

    def fail(self, position: int, message: str) -> NoReturn:
        raise ProjheadsError(f"head {self.text!r}, character {position}: {message}")
