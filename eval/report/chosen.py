"""What a sweep found: the chosen point of each variant, whether it is at the edge, and what moves the scores."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.report.results import Trial
from experiment.disk.records import SweepRecord
from experiment.fields import setting_text

__all__ = ["Chosen", "SweepShares", "chosen_by_all", "chosen_point", "is_rate", "sweep_shares", "sweeps_of"]


@dataclass(frozen=True)
class Chosen:
    """The point of the grid that a variant was trained at.

    Attributes:
        values: The chosen value of each key of the grid.
        at_edge: The keys whose chosen value is the smallest or largest, with both of these.
        points: Number of points that were tried.
        failed: Number of points at which a trial failed.
        measure: What the point was chosen by.
        others: Whether each seed was trained at the point that the other seeds choose.
    """

    values: Mapping[str, Any]
    at_edge: Mapping[str, tuple[Any, Any]]
    points: int
    failed: int
    measure: str
    others: bool = False

    @property
    def by_whom(self) -> str:
        """Say which seeds chose, to be appended to a sentence."""
        return " (for each seed, the best of the other seeds)" if self.others else ""

    def text(self, write: Callable[[Any], str] = setting_text) -> str:
        """Return the chosen values as text, the learning rate without its name: ``0.001 (edge of the grid)``."""
        parts = []
        for key, value in self.values.items():
            name = "" if is_rate(key) else f"{key.rpartition('.')[2]}="
            edge = " (edge of the grid)" if key in self.at_edge else ""
            parts.append(f"{name}{write(value)}{edge}")
        return ", ".join(parts)


@dataclass(frozen=True)
class SweepShares:
    """What moves the scores that a sweep chooses by, each as a standard deviation.

    Attributes:
        learning_rate: Between learning rates of one variant; None if the sweep did not vary it.
        seed: Between seeds of one variant at one point.
        measure: What was scored, on which split.
    """

    learning_rate: float | None
    seed: float
    measure: str


def sweeps_of(trials: Iterable[Trial]) -> dict[str, SweepRecord]:
    """Return the sweep of each variant that has one, by label; its trials differ only in the point that they use."""
    found: dict[str, SweepRecord] = {}
    for trial in trials:
        if trial.record.sweep:
            found.setdefault(trial.label, trial.record.sweep)
    return found


def chosen_point(trials: Sequence[Trial]) -> Chosen | None:
    """Return the point of the sweep that a variant's trials were trained at; None without a sweep."""
    sweep = next(iter(sweeps_of(trials).values()), None)
    values = None if sweep is None else chosen_by_all(sweep)
    if sweep is None or values is None:
        return None
    return Chosen(
        values=values,
        at_edge={key: (min(sweep.grid[key]), max(sweep.grid[key])) for key in sweep.at_edge},
        points=len(sweep.points),
        failed=sum(None in point.seeds.values() for point in sweep.points),
        measure=sweep.measure,
        others=getattr(sweep, "chosen_by_all", None) is not None
        and any(len(point.seeds) > 1 for point in sweep.points),
    )


def sweep_shares(trials: Sequence[Trial]) -> SweepShares | None:
    """Estimate how far the learning rate and the seed move a score, from the scores that the points were chosen by.

    The scores of each variant form a table (learning rates, seeds), averaged over the other keys of the grid. The
    learning rate's share is the variance between rows, less what the scatter over seeds adds to it; it is averaged
    over variants. Seeds are paired, because seed n has the same data order at every point.

    Returns:
        The shares, or None without a sweep that was scored with at least two seeds.
    """
    sweeps = sweeps_of(trials)
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
    measure = next(iter(sweeps.values())).measure
    rate = float(np.sqrt(max(0.0, float(np.mean(rates))))) if rates else None
    return SweepShares(rate, float(np.sqrt(np.mean(seeds))), measure)


def _table(sweep: SweepRecord) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return the scores (learning rates, seeds), without the points at which a trial failed."""
    rate = next((key for key in sweep.grid if is_rate(key)), "")
    rows: dict[str, list[list[float]]] = {}
    for point in sweep.points:
        scores = [score for seed in sorted(point.seeds, key=int) if (score := point.seeds[seed]) is not None]
        if len(scores) == len(point.seeds) > 1:
            rows.setdefault(json.dumps(point.values.get(rate)), []).append(scores)
    return np.array([np.mean(row, axis=0) for row in rows.values()]) if rows else None


def chosen_by_all(sweep: SweepRecord) -> Mapping[str, Any] | None:
    """Return the point that all swept seeds choose together; a trial's own point is chosen by the other seeds."""
    values: Mapping[str, Any] | None = getattr(sweep, "chosen_by_all", None)
    return values or sweep.chosen


def is_rate(key: str) -> bool:
    """Return whether a key of a configuration is a learning rate."""
    name = key.rpartition(".")[2]
    return name in ("lr", "learning_rate") or name.endswith("_lr")
