"""The scores that verdicts are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FloatArray", "Scores"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One variant's per-query scores.

    Attributes:
        seeds: The seeds of its trials, in the order in which they were trained.
        tables: For each data set an array (seeds, queries); the queries have the same order for every variant.
        start_group: Names the start that this variant shares with others: seed n of every variant of a group begins
            as the same map. None for a variant that draws a start that no other variant has.
    """

    seeds: tuple[int, ...]
    tables: tuple[FloatArray, ...]
    start_group: str | None = None

    def means(self) -> FloatArray:
        """Return each seed's mean over data sets of the mean over queries, shape (seeds,)."""
        means: FloatArray = np.mean([table.mean(axis=1) for table in self.tables], axis=0)
        return means

    def only(self, dataset: int) -> "Scores":
        """Return the same scores on one data set."""
        return Scores(self.seeds, (self.tables[dataset],), self.start_group)

    def at(self, seeds: Sequence[int]) -> tuple[FloatArray, ...]:
        """Return the tables of these seeds, in this order."""
        if tuple(seeds) == self.seeds:
            return self.tables
        rows = [self.seeds.index(seed) for seed in seeds]
        return tuple(table[rows] for table in self.tables)

    def rows(self, first: int, last: int | None = None) -> "Scores":
        """Return the scores of the seeds from place ``first`` up to, not including, place ``last``."""
        return Scores(self.seeds[first:last], tuple(table[first:last] for table in self.tables), self.start_group)

    def without(self, seeds: Sequence[int]) -> "Scores":
        """Return the scores of all other seeds."""
        kept = tuple(seed for seed in self.seeds if seed not in seeds)
        return Scores(kept, self.at(kept), self.start_group)
