"""The page of the configuration: every key of an experiment's YAML, from the schema and its docstrings."""

import inspect
import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from text import described, inline, prose, table

from experiment.collections.sources import FOLDER, SOURCES
from experiment.config import ExperimentConfig
from experiment.config.storage_forms import CODES
from experiment.fields import OneOf, sections_in
from projheads.init import find_init, list_inits

__all__ = ["config_page"]


def config_page() -> str:
    """Return the page's Markdown."""
    parts = [
        "# Configuration",
        "Every key that an experiment's YAML can hold, made from the schema when the site is built. A file states "
        "only what differs from the defaults; `python -m train CONFIG --dry-run` prints it with every default "
        "written out, and reports every mistake at once, each with its line. Any key can be set on the command line, "
        "as `key.key=value`.",
    ]
    return "\n\n".join([*parts, *_sections(ExperimentConfig, "Top level", "", set()), *_tables()]) + "\n"


def _tables() -> list[str]:
    """Return what some keys choose from, from the tables that the program reads."""
    sources = [(source.spelling, source.about) for source in (*SOURCES.values(), FOLDER)]
    codes = [("fp16", "half precision"), *((code.spelling, code.about) for code in CODES.values())]
    chosen = {
        "`source`: sources of data": sources,
        "`heads.init`: initialisations": [(name, find_init(name).doc) for name in list_inits()],
        "`eval.storage`: codes": codes,
    }
    return [
        part
        for title, rows in chosen.items()
        for part in (
            f"## {title}",
            table(["name", "what it is"], [[f"`{name}`", inline(about)] for name, about in rows]),
        )
    ]


def _sections(section: type[BaseModel], title: str, path: str, seen: set[type[BaseModel]]) -> list[str]:
    seen.add(section)
    said = _all_described(section)
    rows, inner = [], []
    for name, field in section.model_fields.items():
        chosen = [model for choice in field.metadata if isinstance(choice, OneOf) for model in choice.table.values()]
        found = [model for model in chosen or sections_in(field.annotation) if model not in seen]
        at = f"{path}.{name}".lstrip(".")
        for model in found:
            which = f": {model.model_fields['name'].default}" if chosen else ""
            inner += _sections(model, f"`{at}`{which}", at, seen)
        kind = "section" if chosen else _type(field.annotation)
        rows.append([f"`{name}`", kind, _default(field), inline(said.get(name, ""))])
    return [f"## {title}", prose(section.__doc__ or ""), table(["key", "type", "default", "what it is"], rows), *inner]


def _all_described(section: type[BaseModel]) -> dict[str, str]:
    """Return the descriptions of a section's keys; those it shares with the encoding settings are told there."""
    from projheads.hosts.base import EncodingSettings

    shared = described(EncodingSettings) if "query_length" in section.model_fields else {}
    inherited = [described(cls) for cls in reversed(section.__mro__) if cls.__doc__ and issubclass(cls, BaseModel)]
    return {**shared, **{name: text for known in inherited for name, text in known.items()}}


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(argument) for argument in arguments))
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    names = {str: "text", bool: "true or false", type(None): "none", int: "whole number", float: "number"}
    if annotation in names:
        return names[annotation]
    name = getattr(annotation, "__name__", str(annotation))
    return {"HeadSpec": "head", "Path": "path"}.get(name, f"`{name}`")


def _default(field: Any) -> str:
    if field.default_factory is not None:
        return "made from the rest"
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel):
        return "see below"
    if isinstance(field.default, tuple) and len(field.default) > 8:
        return f"{len(field.default)} values"
    value = field.default
    text = "none" if value is None else ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    text = text.lower() if isinstance(value, bool) else text
    return f"`{inline(text)}`" if text else "empty"
