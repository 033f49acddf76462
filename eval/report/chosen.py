"""What the sweep says: the chosen point of each variant, whether it lies at the edge of its grid, and what it moves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.report.results import Trial

__all__ = ["Chosen", "SweepShares", "chosen_point", "sweep_shares"]


@dataclass(frozen=True)
class Chosen:
    """The point of the grid that a variant was trained at.

    Attributes:
        values: The chosen value of each key of the grid.
        at_edge: The keys of which it is the smallest or the largest value, with these two.
        points: Number of points that were tried.
        failed: Number of points at which a trial failed.
        measure: What they were chosen by.
    """

    values: Mapping[str, Any]
    at_edge: Mapping[str, tuple[Any, Any]]
    points: int
    failed: int
    measure: str

    def text(self) -> str:
        """Write the chosen values, the learning rate's without its name: ``0.001 (edge of the grid)``."""
        parts = []
        for key, value in self.values.items():
            name = "" if _is_rate(key) else f"{key.rpartition('.')[2]}="
            edge = " (edge of the grid)" if key in self.at_edge else ""
            parts.append(f"{name}{json.dumps(value)}{edge}")
        return ", ".join(parts)


@dataclass(frozen=True)
class SweepShares:
    """What moves a score of the sweep, each as a standard deviation; the scores are the sweep's own.

    Attributes:
        learning_rate: Between learning rates of one variant; None where the sweep varied none.
        seed: Between seeds of one variant at one point.
        measure: What was scored, on which split.
    """

    learning_rate: float | None
    seed: float
    measure: str


def chosen_point(trials: Sequence[Trial]) -> Chosen | None:
    """Return the point that a variant's trials were trained at; None without a sweep."""
    sweep = next((one.record["sweep"] for one in trials if one.record.get("sweep")), None)
    if sweep is None or sweep.get("chosen") is None:
        return None
    grid = sweep["grid"]
    return Chosen(
        values=dict(sweep["chosen"]),
        at_edge={key: (min(grid[key]), max(grid[key])) for key in sweep.get("at_edge", [])},
        points=len(sweep["points"]),
        failed=sum(any(score is None for score in point["seeds"].values()) for point in sweep["points"]),
        measure=str(sweep["measure"]),
    )


def sweep_shares(trials: Sequence[Trial]) -> SweepShares | None:
    """Estimate what the learning rate and the seed move, from the scores that the points were chosen by.

    For each variant the scores form a table (learning rates, seeds), other keys of the grid averaged over. The
    variance between its rows, less what the scatter over seeds gives their means, is the learning rate's; the mean
    over the variants is taken. Seeds are paired, for seed n has the same data order at every point.

    Returns:
        The shares, or None without a sweep that was scored with two seeds or more.
    """
    sweeps = {trial.label: trial.record["sweep"] for trial in trials if trial.record.get("sweep")}
    rates, seeds = [], []
    for sweep in sweeps.values():
        table = _table(sweep)
        if table is None:
            continue
        rows, columns = table.shape
        seeds.append(float(table.var(axis=1, ddof=1).mean()))
        if rows > 1:
            left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
            noise = float((left**2).sum() / ((rows - 1) * (columns - 1)))
            rates.append(float(table.mean(axis=1).var(ddof=1)) - noise / columns)
    if not seeds:
        return None
    measure = str(next(iter(sweeps.values()))["measure"])
    rate = float(np.sqrt(max(0.0, float(np.mean(rates))))) if rates else None
    return SweepShares(rate, float(np.sqrt(np.mean(seeds))), measure)


def _table(sweep: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return the scores of learning rates and seeds; rows with a failed trial are left out."""
    rate = next((key for key in sweep["grid"] if _is_rate(key)), None)
    rows: dict[str, list[list[float]]] = {}
    for point in sweep["points"]:
        scores = [point["seeds"][seed] for seed in sorted(point["seeds"], key=int)]
        if len(scores) > 1 and None not in scores:
            rows.setdefault(json.dumps(point["values"].get(rate)), []).append(scores)
    return np.array([np.mean(row, axis=0) for row in rows.values()]) if rows else None


def _is_rate(key: str) -> bool:
    name = key.rpartition(".")[2]
    return name in ("lr", "learning_rate") or name.endswith("_lr")
