"""Reading and writing an experiment's YAML: every mistake at once, each with its line."""

import copy
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from experiment.config import ExperimentConfig, GivenModelsConfig
from experiment.disk.layout import ExperimentFolder
from experiment.disk.yaml12 import DEEPEST, Lines, dump_yaml, read_scalar, read_yaml_file
from experiment.fields import OneOf, sections_in
from projheads.errors import ProjheadsError, did_you_mean

__all__ = ["dump_config", "given_models_config", "load_config", "override_heads", "read_given_models", "read_resolved"]

Schema = TypeVar("Schema", bound=BaseModel)

HINTS = {
    "learning_rate": "train.optimizer.head_lr, and train.optimizer.backbone_lr for the backbone",
    "lr": "train.optimizer.head_lr, and train.optimizer.backbone_lr for the backbone",
    "weight_decay": "train.optimizer.head_weight_decay, and train.optimizer.backbone_weight_decay",
    "optim": "train.optimizer.name",
    "num_train_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "per_device_train_batch_size": "train.batch_size",
    "train_batch_size": "train.batch_size",
    "per_device_eval_batch_size": "eval.batch_tokens",
    "gradient_accumulation_steps": "train.gradient_accumulation",
    "warmup_steps": "train.warmup_ratio, a share of the steps",
    "warmup_ratio": "train.warmup_ratio",
    "max_steps": "train.max_steps",
    "lr_scheduler_type": "train.schedule",
    "logging_steps": "train.log_every",
    "save_steps": "train.resume_every",
    "eval_steps": "train.validations, the number of validations of a trial",
    "fp16": "train.precision=fp16",
    "bf16": "train.precision=bf16",
    "report_to": "train.trackers",
    "output_dir": "output",
    "seed": "seeds, a list or a number of seeds",
    "model_name_or_path": "model.backbone",
    "max_seq_length": "model.document_length and model.query_length",
}
"""What the words of Hugging Face's trainer are called here."""


def load_config(path: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment's YAML.

    Args:
        path: The file.
        overrides: Values that replace those of the file, each as ``key.key=value`` with the value in YAML.

    Returns:
        The checked configuration.

    Raises:
        ProjheadsError: If the file cannot be read or has mistakes; one line for each, with its place and, if a name is
            unknown, the known names.
    """
    _, values, lines = read_yaml_file(path)
    if not isinstance(values, dict):
        raise ProjheadsError(f"{path}: an experiment is a mapping of keys to values; see configs/quickstart.yaml")
    origin = dict.fromkeys(lines, str(path))
    values = copy.deepcopy(values)
    _override(values, origin, overrides)
    values.setdefault("name", path.stem)
    values.setdefault("output", f"outputs/{values['name']}")
    return _validate(ExperimentConfig, values, str(path), lines, origin)


def given_models_config(values: dict[str, Any], overrides: Sequence[str] = ()) -> GivenModelsConfig:
    """Make the configuration of an evaluation of model folders.

    Args:
        values: The options of the command line, in the form of the schema.
        overrides: Values that replace those, each as ``key.key=value`` with the value in YAML.

    Raises:
        ProjheadsError: If there are mistakes; one line for each.
    """
    origin: dict[tuple[str | int, ...], str] = {}
    values = copy.deepcopy(values)
    _override(values, origin, overrides)
    return _validate(GivenModelsConfig, values, "command line", {}, origin)


def read_given_models(folder: Path) -> GivenModelsConfig:
    """Read the configuration of a folder that an evaluation of given models wrote.

    Raises:
        ProjheadsError: If it cannot be read.
    """
    path = ExperimentFolder(folder).evaluation_yaml
    _, values, _ = read_yaml_file(path)
    if not isinstance(values, dict):
        raise ProjheadsError(f"{path}: is not the configuration of an evaluation; run python -m eval --model again")
    # The folder may have been moved since it was written.
    return given_models_config(values | {"output": str(folder)})


def read_resolved(folder: Path, heads: Sequence[Path] = ()) -> ExperimentConfig:
    """Read the resolved configuration of an experiment's folder.

    Args:
        folder: The folder.
        heads: Head files to use instead of those it names, which may have been moved since.

    Raises:
        ProjheadsError: If the folder has none, or a broken one.
    """
    path = ExperimentFolder(folder).experiment_yaml
    remake = ExperimentFolder(folder).remake(path)
    if not path.exists():
        raise ProjheadsError(f"{folder}: has no experiment.yaml; train the experiment first, or {remake}")
    try:
        return load_config(path, override_heads(heads))
    except ProjheadsError as error:
        raise ProjheadsError(f"{error}; {remake}") from None


def override_heads(files: Sequence[Path]) -> list[str]:
    """Return the override for the files of ``--heads FILE``, if there are any."""
    return [f"heads.files={json.dumps([str(file) for file in files])}"] if files else []


def dump_config(config: ExperimentConfig | GivenModelsConfig) -> str:
    """Write a configuration as YAML with every default filled in; ``load_config`` reads back an equal one."""
    return dump_yaml(config.model_dump(mode="json"))


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")) or key.count(".") >= DEEPEST:
        raise ProjheadsError(
            f'command line: "{override[:100]}" is not of the form key=value, for example train.batch_size=16'
        )
    *parents, last = key.split(".")
    at: Any = values
    for parent in parents:
        if not isinstance(at.setdefault(parent, {}), dict):
            raise ProjheadsError(f'command line, {override}: "{parent}" is not a section of the configuration')
        at = at[parent]
    at[last] = read_scalar(text, _on_command_line(override))


def _override(values: dict[str, Any], origin: dict[tuple[str | int, ...], str], overrides: Sequence[str]) -> None:
    """Replace values, and record where each comes from."""
    for override in overrides:
        _set(values, override)
        place: tuple[str | int, ...] = tuple(override.split("=", 1)[0].split("."))
        for key in [key for key in origin if key[: len(place)] == place]:
            del origin[key]
        origin[place] = _on_command_line(override)


def _on_command_line(override: str) -> str:
    return f"command line, {override if len(override) <= 200 else f'{override[:200]}...'}"


def _validate(schema: type[Schema], values: dict[str, Any], path: str, lines: Lines, origin: dict[Any, str]) -> Schema:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        mistakes = error.errors()
        # A list with invalid items is also reported as too short, which is not a separate mistake.
        listed = [mistake for mistake in mistakes if mistake["type"] != "too_short" or mistake["input"] in ([], ())]
        problems = [_line(schema, values, mistake, path, lines, origin) for mistake in listed]
        raise ProjheadsError("\n".join(dict.fromkeys(problems))) from None


def _line(
    schema: type[BaseModel],
    values: dict[str, Any],
    details: ErrorDetails,
    path: str,
    lines: Lines,
    origin: dict[Any, str],
) -> str:
    """Describe one mistake in one line: file, line number, key, what is wrong, what was probably meant."""
    place = details["loc"]
    known = next((place[:length] for length in range(len(place), 0, -1) if place[:length] in origin), None)
    if known != place:  # a section that an override created has no line
        known = next((key for key in origin if key[: len(place)] == place), known)
    if known is None:
        where = path
    elif known in lines and origin[known] == path:
        where = f"{path}:{lines[known]}"
    else:
        where = origin[known]
    key = ".".join(str(part) for part in place)
    return f"{where}: {key}: {_what(schema, values, details)}" if key else f"{where}: {_what(schema, values, details)}"


def _what(schema: type[BaseModel], values: dict[str, Any], details: ErrorDetails) -> str:
    kind, given = details["type"], details["input"]
    if kind == "extra_forbidden":
        *parents, name = details["loc"]
        names = list(_section_at(schema, values, parents).model_fields)
        meant = f"; use {HINTS[str(name)]}" if str(name) in HINTS else did_you_mean(str(name), names)
        return f"unknown key; known here: {', '.join(names)}{meant}"
    if kind == "missing":
        return "missing; it has no default"
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind in ("model_type", "dict_type"):
        return f"must be a mapping of keys to values, not {repr(given)[:60]}"
    if kind == "bool_type" and given in ("yes", "no", "on", "off"):
        return f'"{given}" is a string in YAML 1.2; write true or false'
    message = details["msg"][:1].lower() + details["msg"][1:]
    choices = details.get("ctx", {}).get("expected")
    if kind == "literal_error" and isinstance(given, str) and choices:
        meant = did_you_mean(given, re.findall(r"'([^']+)'", str(choices)))
        return f"{message}, not {given!r}{meant}"
    return f"{message}, not {given!r}" if not isinstance(given, dict | list) else message


def _section_at(schema: type[BaseModel], values: Any, parents: Sequence[int | str]) -> type[BaseModel]:
    """Return the section that a place leads to; ``values`` choose it if it is one of several."""
    section = schema
    for part in parents:
        if isinstance(values, dict):
            values = values.get(part)
        elif isinstance(values, list) and isinstance(part, int):
            values = values[part]
        field = section.model_fields.get(str(part))
        if field is not None:
            choices = [choice.section(values) for choice in field.metadata if isinstance(choice, OneOf)]
            section = next(iter([*choices, *sections_in(field.annotation)]), section)
    return section
