"""The registry of heads, by name, and the options of each."""

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pkgutil
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from projheads.errors import ProjheadsError, UnknownNameError, unknown_name
from projheads.head import Head
from projheads.presets import list_presets, resolve_preset
from projheads.spec import HeadSpec, OptionValue, to_text

__all__ = [
    "ENTRY_POINT_GROUP",
    "HeadOption",
    "broken_plugins",
    "check_options",
    "check_spec",
    "head_class",
    "head_doc",
    "head_files",
    "head_options",
    "import_head_file",
    "list_heads",
    "register_head",
    "run_python_file",
]

ENTRY_POINT_GROUP = "projheads.heads"

_HEADS: dict[str, type[Head]] = {}
_BROKEN: list[str] = []  # plug-ins that could not be loaded, and why
_FILES: dict[str, tuple[Path, str]] = {}  # head -> the user's file that registered it and its SHA-256

HeadClass = TypeVar("HeadClass", bound=type[Head])


@dataclass(frozen=True)
class HeadOption:
    """An option of a head, read from its constructor.

    Attributes:
        name: The option's name.
        annotation: The declared type.
        default: The default value.
    """

    name: str
    annotation: Any
    default: OptionValue

    @property
    def kind(self) -> str:
        """The declared type in words: ``int or tuple of int or none``."""
        return _describe(self.annotation)

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words, if the option is restricted to certain words."""
        return _choices(self.annotation)


def register_head(name: str) -> Callable[[HeadClass], HeadClass]:
    """Register the decorated class as a head.

    The class must subclass :class:`~projheads.head.Head`. Its constructor is ``(in_features, out_features, *,
    options...)``; every option has a type and a default, and this signature is the option schema.

    Raises:
        ProjheadsError: If the name is taken or the constructor has a different form.
    """

    def register(cls: HeadClass) -> HeadClass:
        HeadSpec(name)
        taken = _HEADS.get(name)
        if taken is not None or name in list_presets():
            owner = f"{taken.__module__}.{taken.__qualname__}" if taken else "a preset"
            raise ProjheadsError(f'head "{name}" of {cls.__module__}.{cls.__qualname__}: the name is taken by {owner}')
        _read_options(name, cls)
        _HEADS[name] = cls
        return cls

    return register


def list_heads() -> list[str]:
    """Return the registered names in alphabetical order, from projheads/heads/ and all entry points."""
    _discover()
    return sorted(_HEADS)


def head_class(name: str) -> type[Head]:
    """Return the class registered under a name.

    Raises:
        UnknownNameError: If no head has this name.
    """
    _discover()
    if name not in _HEADS:
        unknown = unknown_name("head", name, [*_HEADS, *list_presets()])
        raise UnknownNameError("; ".join([str(unknown), *_BROKEN])) if _BROKEN else unknown
    return _HEADS[name]


def broken_plugins() -> list[str]:
    """Return a line for each installed package whose heads cannot be loaded: which, why, and what to do."""
    _discover()
    return list(_BROKEN)


def head_options(name: str) -> dict[str, HeadOption]:
    """Return the options of a head by name, in constructor order."""
    return _read_options(name, head_class(name))


def head_doc(name: str) -> str:
    """Return the docstring of a head's module, with formula and source, or else that of its class."""
    cls = head_class(name)
    return inspect.cleandoc(sys.modules[cls.__module__].__doc__ or cls.__doc__ or f"{name}: no docstring")


def check_spec(spec: HeadSpec | str) -> HeadSpec:
    """Check that a head and its options exist and have the declared types, without building it.

    Args:
        spec: A head or preset, as a spec or as text.

    Returns:
        The spec with its values converted to the declared types: integers to floats, words to heads. A preset keeps its
        name.

    Raises:
        ProjheadsError: If a head, option or word is unknown or a value has the wrong type. The head checks ranges when
            it is built.
    """
    spec = HeadSpec.parse(spec) if isinstance(spec, str) else spec
    if resolve_preset(spec) is not spec:
        return spec
    return HeadSpec(spec.name, check_options(spec.name, head_class(spec.name), spec.options))


def check_options(name: str, cls: type[Head], options: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Check options against a class's constructor and convert them to the declared types."""
    schema = _read_options(name, cls)
    checked: dict[str, OptionValue] = {}
    for option, value in options.items():
        if option not in schema:
            if not schema:
                raise ProjheadsError(f'head "{name}" takes no options, but "{option}" was given')
            raise unknown_name(f"option of head {name}", option, schema)
        checked[option] = _convert_option(name, schema[option], value)
    return checked


def import_head_file(path: str | os.PathLike[str]) -> list[str]:
    """Run a Python file that registers heads and return their names; an unchanged file runs only once.

    Raises:
        ProjheadsError: If the file does not exist, raises an error, or registers nothing.
    """
    path = Path(path)
    known = set(list_heads())
    content = path.read_bytes() if path.is_file() else b""
    identity = path.resolve(), hashlib.sha256(content).hexdigest()
    if there := sorted(name for name in known if _FILES.get(name) == identity):
        return there
    run_python_file(path, f"projheads_head_file_{path.stem}")
    added = sorted(set(_HEADS) - known)
    if not added:
        raise ProjheadsError(f'{path}: registers no head; decorate its class with @register_head("name")')
    _FILES.update(dict.fromkeys(added, identity))
    return added


def run_python_file(path: Path, module_name: str) -> None:
    """Run a user's Python file as a module.

    Raises:
        ProjheadsError: If the file does not exist, raises an error, or exits.
    """
    found = importlib.util.spec_from_file_location(module_name, path)
    if not path.is_file() or found is None or found.loader is None:
        raise ProjheadsError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[module_name] = module
    try:
        found.loader.exec_module(module)
    except ProjheadsError:
        raise
    except (Exception, SystemExit) as error:
        raise ProjheadsError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def head_files(spec: HeadSpec) -> dict[str, str]:
    """Return the SHA-256 of the user's file for each user-defined head in a spec, including nested heads."""
    spec = resolve_preset(spec)
    found = {spec.name: _FILES[spec.name][1]} if spec.name in _FILES else {}
    for value in spec.options.values():
        for inner in value if isinstance(value, tuple) else (value,):
            found |= head_files(inner) if isinstance(inner, HeadSpec) else {}
    return found


@functools.cache
def _discover() -> None:
    heads = importlib.import_module("projheads.heads")
    for module in pkgutil.iter_modules(heads.__path__, "projheads.heads."):
        importlib.import_module(module.name)
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry_point.load()
        except (Exception, SystemExit) as error:  # of whatever kind, it must not hide the other heads
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            _BROKEN.append(
                f'entry point "{entry_point.name} = {entry_point.value}" of {ENTRY_POINT_GROUP} cannot be loaded: '
                f"{reason}; fix or uninstall its package"
            )


def _read_options(name: str, cls: type[Head]) -> dict[str, HeadOption]:
    if not (isinstance(cls, type) and issubclass(cls, Head)):
        raise ProjheadsError(f'head "{name}": {cls!r} is not a subclass of projheads.Head')
    hints = typing.get_type_hints(cls.__init__)
    _self, *parameters = inspect.signature(cls.__init__).parameters.values()
    if [parameter.name for parameter in parameters[:2]] != ["in_features", "out_features"]:
        raise ProjheadsError(f'head "{name}": its constructor must start (self, in_features, out_features, *, ...)')
    options = {}
    for parameter in parameters[2:]:
        declared = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
        if not declared or parameter.name not in hints:
            raise ProjheadsError(
                f'head "{name}": option "{parameter.name}" must be keyword-only, with a type and a default'
            )
        options[parameter.name] = HeadOption(parameter.name, hints[parameter.name], parameter.default)
    return options


def _convert_option(head: str, option: HeadOption, value: OptionValue) -> OptionValue:
    try:
        return _convert(value, option.annotation)
    except TypeError:
        wrong = [item for item in (value if isinstance(value, tuple) else (value,)) if item not in option.choices]
        if option.choices and wrong and isinstance(wrong[0], str):
            raise unknown_name(f"{option.name} of head {head}", wrong[0], option.choices) from None
        raise ProjheadsError(f'head "{head}": {option.name}={to_text(value)} must be {option.kind}') from None


def _convert(value: OptionValue, annotation: Any) -> OptionValue:
    """Convert a value to the declared type, or raise TypeError."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        for member in arguments:
            try:
                return _convert(value, member)
            except TypeError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin is tuple:
        if isinstance(value, tuple):
            return tuple(_convert(item, arguments[0]) for item in value)
    elif annotation is HeadSpec:
        if isinstance(value, str | HeadSpec):
            return check_spec(value)
    elif annotation is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif type(value) is annotation:
        return value
    raise TypeError


def _describe(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, arguments))
    if origin is Literal:
        return "|".join(arguments)
    if origin is tuple:
        return f"tuple of {_describe(arguments[0])}"
    names: dict[Any, str] = {bool: "true|false", str: "text", HeadSpec: "head", type(None): "none"}
    return names.get(annotation) or str(annotation.__name__)


def _choices(annotation: Any) -> tuple[str, ...]:
    if typing.get_origin(annotation) is Literal:
        return typing.get_args(annotation)
    return tuple(dict.fromkeys(word for member in typing.get_args(annotation) for word in _choices(member)))
