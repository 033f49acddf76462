"""Reading and writing an experiment's YAML: every mistake at once, each with its line."""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from experiment.config import CheckpointsConfig, ExperimentConfig
from experiment.disk.yaml12 import Lines, read_scalar, read_yaml
from projheads.errors import ProjheadsError, did_you_mean, unknown_name

__all__ = ["checkpoints_config", "dump_config", "load_config", "override_heads", "read_resolved"]

Schema = TypeVar("Schema", bound=BaseModel)


def load_config(path: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment's YAML.

    Args:
        path: The file.
        overrides: Values set over those of the file, each as ``key.key=value`` with the value in YAML.

    Returns:
        The checked configuration.

    Raises:
        ProjheadsError: If the file cannot be read or holds mistakes; one line for each, with its place and, where a
            name is unknown, the names that are known.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProjheadsError(f"{path}: cannot be read as a configuration ({error})") from None
    values, lines = read_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ProjheadsError(f"{path}: an experiment is a mapping of keys to values; see configs/quickstart.yaml")
    origin = dict.fromkeys(lines, str(path))
    values = copy.deepcopy(values)
    _override(values, origin, overrides)
    values.setdefault("name", path.stem)
    values.setdefault("output", f"outputs/{values['name']}")
    return _validate(ExperimentConfig, values, str(path), lines, origin)


def checkpoints_config(values: dict[str, Any], overrides: Sequence[str] = ()) -> CheckpointsConfig:
    """Make the configuration of an evaluation of checkpoints.

    Args:
        values: What the options of the command line say, in the form of the schema.
        overrides: Values set over those, each as ``key.key=value`` with the value in YAML.

    Raises:
        ProjheadsError: If there are mistakes; one line for each.
    """
    origin: dict[tuple[str | int, ...], str] = {}
    values = copy.deepcopy(values)
    _override(values, origin, overrides)
    return _validate(CheckpointsConfig, values, "command line", {}, origin)


def read_resolved(folder: Path, heads: Sequence[Path] = ()) -> ExperimentConfig:
    """Read the resolved configuration of an experiment's folder.

    Args:
        folder: The folder.
        heads: Head files that stand in for those it names, which may have been moved since.

    Raises:
        ProjheadsError: If the folder holds none, or a broken one.
    """
    path = folder / "experiment.yaml"
    if not path.exists():
        raise ProjheadsError(f"{folder}: not an experiment's folder, for it has no experiment.yaml; run train first")
    return load_config(path, override_heads(heads))


def override_heads(files: Sequence[Path]) -> list[str]:
    """Return the override that ``--heads FILE`` stands for; none where no file is given."""
    return [f"heads.files={json.dumps([str(file) for file in files])}"] if files else []


def dump_config(config: ExperimentConfig | CheckpointsConfig) -> str:
    """Write a configuration as YAML with every default in place; ``load_config`` reads it back as an equal one."""
    values = config.model_dump(mode="json")
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ProjheadsError(
            f'command line: "{override}" is not of the form key=value, for example train.batch_size=16'
        )
    *parents, last = key.split(".")
    at: Any = values
    for parent in parents:
        if not isinstance(at.setdefault(parent, {}), dict):
            raise ProjheadsError(f'command line, {override}: "{parent}" is not a section of the configuration')
        at = at[parent]
    at[last] = read_scalar(text, f"command line, {override}")


def _override(values: dict[str, Any], origin: dict[tuple[str | int, ...], str], overrides: Sequence[str]) -> None:
    """Set values over others, and note for each where it comes from."""
    for override in overrides:
        _set(values, override)
        place: tuple[str | int, ...] = tuple(override.split("=", 1)[0].split("."))
        for key in [key for key in origin if key[: len(place)] == place]:
            del origin[key]
        origin[place] = f"command line, {override}"


def _validate(schema: type[Schema], values: dict[str, Any], path: str, lines: Lines, origin: dict[Any, str]) -> Schema:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        mistakes = error.errors()
        # A list whose items are wrong is also reported as too short: that is no mistake of its own.
        listed = [mistake for mistake in mistakes if mistake["type"] != "too_short" or mistake["input"] in ([], ())]
        problems = [_line(schema, mistake, path, lines, origin) for mistake in listed]
        raise ProjheadsError("\n".join(dict.fromkeys(problems))) from None


def _line(schema: type[BaseModel], details: ErrorDetails, path: str, lines: Lines, origin: dict[Any, str]) -> str:
    """Put one mistake into one line: file, line number, key, what is wrong, what was probably meant."""
    place = _without_tags(schema, details["loc"])
    known = next((place[:length] for length in range(len(place), 0, -1) if place[:length] in origin), None)
    if known is None:
        where = path
    elif known in lines and origin[known] == path:
        where = f"{path}:{lines[known]}"
    else:
        where = origin[known]
    key = ".".join(str(part) for part in place)
    return f"{where}: {key}: {_what(schema, details)}" if key else f"{where}: {_what(schema, details)}"


def _what(schema: type[BaseModel], details: ErrorDetails) -> str:
    kind, given = details["type"], details["input"]
    if kind == "extra_forbidden":
        *parents, name = (str(part) for part in details["loc"])
        names = _fields(schema, parents)
        return f"unknown key; known here: {', '.join(names)}{did_you_mean(name, names)}"
    if kind == "union_tag_invalid":
        tags = re.findall(r"'([^']+)'", str(details["ctx"]["expected_tags"]))
        return str(unknown_name(str(details["loc"][-1]), str(details["ctx"]["tag"]), tags))
    if kind == "missing":
        return "missing; it has no default"
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "bool_type" and given in ("yes", "no", "on", "off"):
        return f'"{given}" is a string in YAML 1.2; write true or false'
    message = details["msg"][:1].lower() + details["msg"][1:]
    choices = details.get("ctx", {}).get("expected")
    if kind == "literal_error" and isinstance(given, str) and choices:
        meant = did_you_mean(given, re.findall(r"'([^']+)'", str(choices)))
        return f"{message}, not {given!r}{meant}"
    return f"{message}, not {given!r}" if not isinstance(given, dict | list) else message


def _fields(schema: type[BaseModel], parents: Sequence[str]) -> list[str]:
    """List the keys of the section that a path leads to."""
    section = [section for section, _ in _walk(schema, parents)][-1]
    return list(section.model_fields)


def _without_tags(schema: type[BaseModel], place: Sequence[int | str]) -> tuple[int | str, ...]:
    """Leave out of a mistake's place the names by which pydantic chose among the sections of a union."""
    return tuple(part for part, (_, is_tag) in zip(place, list(_walk(schema, place))[1:], strict=True) if not is_tag)


def _walk(schema: type[BaseModel], place: Sequence[int | str]) -> Iterator[tuple[type[BaseModel], bool]]:
    """Follow a mistake's place: yield the section before its first part, and behind each whether the part was a tag."""
    sections: list[type[BaseModel]] = [schema]
    yield sections[0], False
    for part in place:
        tagged = [section for section in sections if part in _names(section)] if len(sections) > 1 else []
        if tagged:
            sections = tagged
        elif part in sections[0].model_fields:
            sections = _sections_in(sections[0].model_fields[str(part)].annotation) or sections
        yield sections[0], bool(tagged)


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    """List the sections that an annotation allows: none, one, or those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_in(part)]


def _names(section: type[BaseModel]) -> tuple[Any, ...]:
    """Return what ``name`` may be in a section that is one of a union, and nothing for other sections."""
    return get_args(section.model_fields["name"].annotation) if "name" in section.model_fields else ()
