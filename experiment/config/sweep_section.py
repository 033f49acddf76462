"""The section ``sweep`` of an experiment's YAML."""

from typing import Annotated, Any

from pydantic import Field, StrictInt, ValidationError, ValidatorFunctionWrapHandler

from experiment.config.grid import Grid, Point, check_grid, flat_grid, forward, grid_points, leaves
from experiment.config.train_section import TrainConfig
from experiment.fields import Count, Section

__all__ = ["SweepConfig", "read_sweep"]


AROUND = (0.3, 1.0, 3.0)
"""The learning rates of the default grid, in multiples of the experiment's own."""


def _rates(head_lr: float) -> Grid:
    return {
        "optimizer.head_lr": tuple(float(f"{factor * head_lr:.2g}") if factor != 1 else head_lr for factor in AROUND)
    }


class SweepConfig(Section):
    """Training settings that every variant tries; each keeps the values that suit it.

    Held-out training pairs decide, by nDCG@10. A seed uses the values that the other swept seeds choose, so the luck
    that chooses is not the luck that is reported. ``sweep: {}`` switches the sweep off, and
    ``sweep: {optimizer.head_lr: [3e-4, 1e-3]}`` is short for that ``grid``.

    Attributes:
        grid: Settings of ``train`` by their path, each with its values; all combinations are tried. By default the
            head's learning rate, at 0.3, 1 and 3 times ``train.optimizer.head_lr``.
        seeds: How many of the experiment's seeds, the first ones, are trained at every point of the grid; the others
            are trained only at the point that those choose together.
        extend: How often the grid of a variant grows if the choice is its smallest or largest number; 0 for never.
    """

    grid: Grid = _rates(1e-3)
    seeds: Count = 3
    extend: Annotated[StrictInt, Field(ge=0, le=100)] = 2

    def shared_point(self, train: TrainConfig) -> Point | None:
        """Return the point that has the experiment's own values of ``train``; None if it is not in the grid."""
        own = leaves(train.model_dump(mode="json"))
        values = {key: own[key] for key in self.grid}
        return next((point for point in grid_points(self.grid, train) if self.grid and point.values == values), None)


def read_sweep(value: Any, read: ValidatorFunctionWrapHandler, train: TrainConfig | None) -> SweepConfig:
    """Read the section, in which settings may be listed directly, and check its grid.

    Args:
        value: The section; keys other than those of :class:`SweepConfig` are settings of the grid.
        read: Reads the section itself.
        train: The training section; None if it has mistakes, and the grid is not checked.

    Raises:
        ValidationError: With the place of every mistake, as the file writes it.
    """
    direct: dict[str, Any] = {}
    if not value and not isinstance(value, SweepConfig):
        value = {"grid": {}}
    elif isinstance(value, dict):
        direct = flat_grid({key: inner for key, inner in value.items() if key not in SweepConfig.model_fields})
        value = {key: inner for key, inner in value.items() if key in SweepConfig.model_fields}
        if direct or "grid" in value:
            grid = flat_grid(value.get("grid") or {})
            value["grid"] = grid | direct if isinstance(grid, dict) else grid
    try:
        sweep: SweepConfig = read(value)
        grid = sweep.grid
        if train is not None and "grid" not in sweep.model_fields_set:
            grid = _rates(train.optimizer.head_lr)
        try:
            grid = check_grid(grid, train) if train is not None else grid
        except ValidationError as error:
            raise _moved(error, ("grid",), ()) from None
    except ValidationError as error:
        raise _moved(error, (), tuple(direct)) from None
    return sweep.model_copy(update={"grid": grid})


def _moved(error: ValidationError, into: tuple[str, ...], direct: tuple[str, ...]) -> ValidationError:
    """Move the mistakes of settings below ``grid``, or from there to where the file lists them directly."""
    moved = []
    for inner in error.errors():
        place = into + inner["loc"]
        if len(place) > 1 and place[0] == "grid" and place[1] in direct:
            place = place[1:]
        moved.append(forward(place, inner))
    return ValidationError.from_exception_data("sweep", moved)
