"""The key ``axes`` of an experiment's YAML: training settings whose values are compared."""

import itertools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails

from experiment.fields import check_combinations
from projheads.errors import ProjheadsError, unknown_name

__all__ = ["check_axes", "combinations", "with_values"]

ELSEWHERE = ("heads.init", "heads.out_features", "model.layer")
"""Keys outside ``train`` that may be axes; the others are paths inside ``train``."""

NO_RESULT = ("log_every", "resume_every", "states", "trackers")
"""Settings of ``train`` that are not compared: results do not depend on them, or only by rounding."""


def combinations(axes: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """List all combinations of the axes' values; the values of the last key change fastest."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an experiment's JSON values with the values of a point in place, and without axes."""
    changed = {**config, "axes": {}, **{name: _copy(config[name]) for name in ("train", "heads", "model")}}
    for key, value in values.items():
        *parents, last = _path(key)
        at: Any = changed
        for parent in parents:
            at = at[parent]
        at[last] = value
    return changed


def check_axes(axes: Mapping[str, tuple[Any, ...]], config: BaseModel) -> dict[str, tuple[Any, ...]]:
    """Check every key and value by building the experiment with it.

    Args:
        axes: The values by key.
        config: The experiment without axes.

    Returns:
        The axes with their values as the sections read them.

    Raises:
        ValidationError: With the place of every mistake in the axes.
    """
    values = config.model_dump(mode="json")
    leaves = [key for key in _leaves(values["train"]) if key.split(".")[0] not in NO_RESULT]
    known, swept = [*leaves, *ELSEWHERE], values["sweep"].get("grid", values["sweep"])
    mistakes: list[InitErrorDetails] = []
    checked: dict[str, tuple[Any, ...]] = {}
    for key, given in axes.items():
        if key not in known:
            mistakes.append(_mistake((key,), given, str(unknown_name("axis", key, known))))
        elif key in swept:
            mistakes.append(_mistake((key,), given, "is swept too; a setting is either compared or chosen"))
        elif not given:
            mistakes.append(_mistake((key,), given, "lists no values; give at least one"))
        else:
            checked[key] = tuple(_read(config, values, key, given, mistakes))
    try:
        check_combinations(axes.values())
    except ProjheadsError as error:
        mistakes.append(_mistake((), axes, str(error)))
    if not mistakes and len(checked) > 1:
        for point in combinations(checked):
            try:
                type(config).model_validate(with_values(values, point))
            except ValidationError as error:
                where = ", ".join(f"{key}={value}" for key, value in point.items())
                mistakes += [_mistake((), point, f"at {where}: {_text(one)}") for one in error.errors()]
    if mistakes:
        raise ValidationError.from_exception_data("axes", mistakes)
    return checked


def _read(
    config: BaseModel, values: Mapping[str, Any], key: str, given: tuple[Any, ...], mistakes: list[InitErrorDetails]
) -> list[Any]:
    """Return a key's values as its section reads them, and collect its mistakes."""
    found: list[Any] = []
    for place, value in enumerate(given):
        if isinstance(value, list | dict):
            mistakes.append(_mistake((key, place), value, f"must be one value, not {value!r}"))
            continue
        try:
            dumped = type(config).model_validate(with_values(values, {key: value})).model_dump(mode="json")
        except ValidationError as error:
            mistakes += [_mistake((key, place), value, _text(one)) for one in error.errors()]
            continue
        for part in _path(key):
            dumped = dumped[part]
        if dumped in found:
            mistakes.append(_mistake((key, place), value, f"the value {value!r} is listed twice; remove one"))
        found.append(dumped)
    return found


def _path(key: str) -> list[str]:
    return key.split(".") if key in ELSEWHERE else ["train", *key.split(".")]


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in values.items()}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    return [
        name
        for key, value in values.items()
        for name in (_leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
    ]


def _text(error: Any) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}, not {error['input']!r}"


def _mistake(place: tuple[str | int, ...], given: Any, text: str) -> InitErrorDetails:
    # The text of a custom error is a template, in which {names} are replaced; a ValueError's text is not.
    return InitErrorDetails(type="value_error", loc=place, input=given, ctx={"error": ValueError(text)})
