"""How large an experiment must be: the smallest difference that so many seeds and queries would show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.verdicts.judge import smallest_shown
from eval.verdicts.variance import Levels, borrow, estimate

__all__ = ["Design", "fit_design"]


@dataclass(frozen=True)
class Design:
    """The scatter of an experiment's differences, from which larger and smaller ones are foreseen.

    Attributes:
        seed_variance: Variance between seeds of a difference over endless queries.
        query_variance: Variance of a difference through the draw of the present number of queries.
        noise_variance: Variance through the seed-by-query noise, of one seed and the present number of queries.
        seeds: The present number of seeds.
        queries: The present number of queries of each data set.
        comparisons: Number of variants compared with the baseline.
    """

    seed_variance: float
    query_variance: float
    noise_variance: float
    seeds: int
    queries: tuple[int, ...]
    comparisons: int

    def smallest_shown(self, seeds: int, more_queries: float = 1.0) -> float:
        """Return the true difference that is shown with 80% probability.

        Args:
            seeds: Number of seeds.
            more_queries: Number of queries of every data set, as a multiple of the present one.
        """
        over_seeds = self.seed_variance + self.noise_variance / more_queries
        queries = tuple(max(2, round(more_queries * count)) for count in self.queries)
        part = Levels(
            mean=0.0,
            seeds=seeds,
            queries=queries,
            seed_variance=over_seeds,
            query_part=self.query_variance / more_queries,
            query_df=float(sum(queries) - len(queries)),
            noise_part=self.noise_variance / more_queries / seeds,
        )
        (variance, df), *_ = borrow([over_seeds] * self.comparisons, [seeds] * self.comparisons)
        foreseen = estimate(part, variance, df)
        return smallest_shown(foreseen.standard_error, foreseen.df, comparisons=self.comparisons)

    def seeds_needed(self, difference: float, *, most: int = 100) -> int | None:
        """Return the least number of seeds, from 3 on, that shows a difference with the present queries.

        Returns:
            None where ``most`` seeds do not show it.
        """
        return next((seeds for seeds in range(3, most + 1) if self.smallest_shown(seeds) <= difference), None)

    def queries_needed(self, difference: float, *, most: float = 1000.0) -> float | None:
        """Return the least multiple of the present queries that shows a difference with the present seeds.

        Returns:
            None where ``most`` times the present queries do not show it.
        """
        if self.smallest_shown(self.seeds, most) > difference:
            return None
        low, high = 0.0, most
        for _ in range(60):
            middle = (low + high) / 2
            enough = middle > 0 and self.smallest_shown(self.seeds, middle) <= difference
            low, high = (low, middle) if enough else (middle, high)
        return high


def fit_design(parts: Sequence[Levels]) -> Design:
    """Take the scatter of an experiment from its variants' differences to the baseline.

    Args:
        parts: The variants' paired differences, each over at least two seeds.
    """
    noise = float(np.mean([part.noise_part * part.seeds for part in parts]))
    over_seeds = float(np.average([part.seed_variance for part in parts], weights=[part.seeds - 1 for part in parts]))
    return Design(
        seed_variance=max(0.0, over_seeds - noise),
        query_variance=float(np.mean([part.query_part for part in parts])),
        noise_variance=noise,
        seeds=max(part.seeds for part in parts),
        queries=parts[0].queries,
        comparisons=len(parts),
    )
