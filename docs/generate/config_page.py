"""Generates the configuration page from the schema and its docstrings: every key of an experiment's YAML."""

import inspect
import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from text import described, inline, prose, table

from experiment.collections.sources import FOLDER, SOURCES
from experiment.config import ExperimentConfig
from experiment.config.search_forms import SEARCHES
from experiment.config.storage_forms import CODES
from experiment.fields import OneOf, sections_in
from projheads.init import find_init, list_inits

__all__ = ["config_page", "field_rows"]


def config_page() -> str:
    """Return the page's Markdown."""
    parts = [
        "# Configuration",
        "Every key of an experiment's YAML, generated from the schema. A file states only what differs from the "
        "defaults. `python -m train CONFIG --dry-run` prints it with every default filled in and reports all errors "
        "at once, each with its line number. Any key can be set on the command line as `key.key=value`.",
    ]
    return "\n\n".join([*parts, *_sections(ExperimentConfig, "Top level", "", set()), *_tables()]) + "\n"


def _tables() -> list[str]:
    """Return what some keys choose from, from the tables that the program reads."""
    sources = [(source.spelling, source.about) for source in (*SOURCES.values(), FOLDER)]
    forms = [
        ("fp16", "half precision, which forms without a code have"),
        ("dim<width>", "the first numbers of every vector, scaled to norm 1"),
        ("centred", "less the mean of the documents' token vectors, for documents and queries; scaled to norm 1"),
        ("pool<factor>", "that many times fewer token vectors of a document: means of clusters of similar ones"),
        *((code.spelling, code.about) for code in CODES.values()),
    ]
    searches = [(search.name, search.about) for search in SEARCHES.values()]
    chosen = {
        "`source`: sources of data": sources,
        "`heads.init`: initialisations": [(name, find_init(name).doc) for name in list_inits()],
        "`eval.storage`: forms": forms,
        "`eval.searches`: searches": [*searches, ("IVF256,SQfp16", "an index of FAISS, by its factory string")],
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
    inner = []
    for name, field in section.model_fields.items():
        chosen = [model for choice in field.metadata if isinstance(choice, OneOf) for model in choice.table.values()]
        found = [model for model in chosen or sections_in(field.annotation) if model not in seen]
        at = f"{path}.{name}".lstrip(".")
        for model in found:
            which = f": {model.model_fields['name'].default}" if chosen else ""
            inner += _sections(model, f"`{at}`{which}", at, seen)
    rows = table(["key", "type", "default", "description"], field_rows(section, said))
    return [f"## {title}", prose(section.__doc__ or ""), rows, *inner]


def field_rows(section: type[BaseModel], said: dict[str, str]) -> list[list[str]]:
    """Return the name, type, default and description of each field."""
    return [
        [f"`{field.alias or name}`", _kind(field), _default(field), inline(said.get(name, ""))]
        for name, field in section.model_fields.items()
    ]


def _kind(field: FieldInfo) -> str:
    chosen = any(isinstance(choice, OneOf) for choice in field.metadata)
    return "section" if chosen else _type(field.annotation)


def _all_described(section: type[BaseModel]) -> dict[str, str]:
    """Return the descriptions of a section's keys; the shared encoding settings document theirs."""
    from projheads.hosts.base import EncodingSettings

    shared = described(EncodingSettings) if "query_length" in section.model_fields else {}
    inherited = [described(cls) for cls in reversed(section.__mro__) if cls.__doc__ and issubclass(cls, BaseModel)]
    return {**shared, **{name: text for known in inherited for name, text in known.items()}}


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(argument) for argument in arguments))
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    names = {str: "string", bool: "boolean", type(None): "none", int: "integer", float: "number", Any: "any value"}
    if annotation in names:
        return names[annotation]
    name = getattr(annotation, "__name__", str(annotation))
    return {"HeadSpec": "head", "Path": "path"}.get(name, f"`{name}`")


def _default(field: Any) -> str:
    if field.default_factory is not None:
        return "derived"
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
