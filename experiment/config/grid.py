"""Grids: values of training settings that are tried in all combinations."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from experiment.config.train_section import TrainConfig
from experiment.fields import check_combinations, setting_text
from projheads.errors import ProjheadsError, unknown_name

__all__ = [
    "Grid",
    "Point",
    "at_edge",
    "check_grid",
    "flat_grid",
    "forward",
    "grid_points",
    "grow_grid",
    "leaves",
    "value_error",
]

Grid = dict[str, tuple[Any, ...]]
"""The values to try, by the path of a setting in ``train``."""

SHARED = (
    "data",
    "trainable",
    "states",
    "max_pairs",
    "next_stages",
    "validation",
    "validation_pairs",
    "validations",
    "precision",
    "log_every",
    "resume_every",
    "trackers",
)
"""Settings that all trials of an experiment share."""

SLUG_LENGTH = 100


@dataclass(frozen=True)
class Point:
    """One combination of a grid's values.

    Attributes:
        values: The value of each key.
        settings: The training section with these values.
    """

    values: Mapping[str, Any]
    settings: TrainConfig

    @property
    def slug(self) -> str:
        """A unique folder name: ``optimizer.head_lr=0.001-optimizer.head_weight_decay=0.0``."""
        text = "-".join(f"{key}={json.dumps(value)}" for key, value in self.values.items())
        readable = re.sub(r"[^a-z0-9_.=-]+", "-", text.replace('"', "").lower())
        if readable == text.replace('"', "") and len(readable) <= SLUG_LENGTH:
            return readable
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        return f"{readable[: SLUG_LENGTH - 11].rstrip('-')}-{digest}"

    @property
    def suffix(self) -> str:
        """What a point of the axes adds to a variant's folder name: ``@`` and the slug, or nothing without axes."""
        return f"@{self.slug}" if self.values else ""

    def __str__(self) -> str:
        """Write the point for people, as ``key=value`` without ``train.``."""
        return ", ".join(f"{key}={setting_text(value)}" for key, value in self.values.items())


def grid_points(grid: Grid, train: TrainConfig) -> list[Point]:
    """List all combinations of a checked grid's values; the values of the last key change fastest."""
    combinations = (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))
    return [Point(values, _with(train, values)) for values in combinations]


def flat_grid(value: Any) -> Any:
    """Write keys of nested sections as paths, so that ``sweep.optimizer.head_lr=[...]`` works too."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        inner = flat_grid(inner)
        flat |= {f"{key}.{name}": item for name, item in inner.items()} if isinstance(inner, dict) else {key: inner}
    return flat


def check_grid(grid: Grid, train: TrainConfig) -> Grid:
    """Check every key and value by building the training section with it.

    Returns:
        The grid with its values as the training section reads them: integers become floats for float settings.

    Raises:
        ValidationError: With the place of every mistake in the grid.
    """
    mistakes: list[InitErrorDetails] = []
    checked: Grid = {}
    known = [key for key in leaves(train.model_dump(mode="json")) if key.split(".")[0] not in SHARED]
    for key, values in grid.items():
        if key.split(".")[0] in SHARED:
            mistakes.append(value_error((key,), values, f"train.{key} is the same for all trials; it cannot be swept"))
        elif key not in known:
            mistakes.append(value_error((key,), values, str(unknown_name("setting of train", key, known))))
        elif not values:
            mistakes.append(value_error((key,), values, "lists no values; give at least one"))
        else:
            checked[key] = tuple(_read(train, key, values, mistakes))
    try:
        check_combinations(grid.values())
    except ProjheadsError as error:
        mistakes.append(value_error((), grid, str(error)))
    if not mistakes and grid and not ((train.validation_pairs or train.validation) and train.validations):
        missing = "validation_pairs" if train.validations else "validations"
        text = f"a sweep is decided on held-out pairs, but train.{missing} is 0; raise it, or switch off: `sweep: {{}}`"
        mistakes.append(value_error((), grid, text))
    if not mistakes:
        try:
            grid_points(checked, train)
        except ValidationError as error:
            mistakes = [forward((), inner) for inner in error.errors()]
    if mistakes:
        raise ValidationError.from_exception_data("sweep", mistakes)
    return checked


def at_edge(values: Mapping[str, Any], grid: Grid) -> list[str]:
    """List the keys whose value is the smallest or the largest of several numbers."""
    ordered = [
        key for key, tried in grid.items() if len(tried) >= 2 and all(type(one) in (int, float) for one in tried)
    ]
    return [key for key in ordered if values[key] in (min(grid[key]), max(grid[key]))]


def grow_grid(grid: Grid, values: Mapping[str, Any], train: TrainConfig) -> Grid:
    """Add a value beyond each edge on which a point lies, by the ratio of the two values there.

    Returns:
        The grid, with smaller values before the others and larger ones after them; a value that the training section
        does not allow is not added.
    """
    grown = dict(grid)
    for key in at_edge(values, grid):
        edge, tried = values[key], sorted(grid[key])
        inner = tried[1] if edge == tried[0] else tried[-2]
        if not edge or not inner:
            continue
        further = float(f"{edge * edge / inner:.6g}")
        try:
            checked = leaves(
                _with(train, {key: round(further) if type(edge) is int else further}).model_dump(mode="json")
            )
        except ValidationError:
            continue
        if checked[key] not in grid[key]:
            grown[key] = (checked[key], *grid[key]) if edge == tried[0] else (*grid[key], checked[key])
    return grown


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a section: its values by their path."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _read(train: TrainConfig, key: str, values: tuple[Any, ...], mistakes: list[InitErrorDetails]) -> Iterator[Any]:
    """Yield a key's values as the training section reads them, and collect its mistakes."""
    seen = []
    for index, value in enumerate(values):
        try:
            read = leaves(_with(train, {key: value}).model_dump(mode="json"))[key]
        except ValidationError as error:
            mistakes.extend(forward((key, index), inner) for inner in error.errors())
            continue
        if read in seen:
            mistakes.append(value_error((key, index), value, f"the value {value!r} is listed twice; remove one"))
        seen.append(read)
        yield read


def _with(train: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    section = train.model_dump(mode="json")
    for key, value in values.items():
        *parents, last = key.split(".")
        at = section
        for parent in parents:
            at = at[parent]
        at[last] = value
    return TrainConfig.model_validate(section)


def value_error(place: tuple[str | int, ...], given: Any, text: str) -> InitErrorDetails:
    """Describe a mistake at a place of the YAML."""
    # The text of a custom error is a template, in which {names} are replaced; a ValueError's text is not.
    return InitErrorDetails(type="value_error", loc=place, input=given, ctx={"error": ValueError(text)})


def forward(place: tuple[str | int, ...], error: Any) -> InitErrorDetails:
    """Move a mistake of a part of the YAML to the place of what caused it."""
    return InitErrorDetails(type=error["type"], loc=place, input=error["input"], ctx=error.get("ctx", {}))
