"""How large an experiment must be: the smallest difference that so many seeds and queries detect."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from eval.verdicts.difference import Difference, Part, degrees_of_freedom
from eval.verdicts.multiple import critical
from eval.verdicts.scores import FloatArray
from eval.verdicts.variance import lent
from experiment.allocation import baseline_seeds

__all__ = ["ALPHA", "POWER", "Design", "baseline_seeds", "smallest_equivalence"]

ALPHA = 0.05
"""Chance, at most, that any variant is called better or worse where none is."""

POWER = 0.8
"""Chance with which the smallest difference that an experiment detects is detected."""

DRAWS = 256
"""Draws of the true variances from what the trials say about them, and of a new experiment's estimate of them."""

MOST_SEEDS, MOST_QUERIES = 100, 1000.0
"""Where the search for enough seeds, and for enough times the present queries, ends."""


def _lattice() -> FloatArray:
    """Return evenly spread points of the unit cube, shape (DRAWS, 5) (Roberts' generalised golden ratio)."""
    root = 1.0
    for _ in range(30):
        root = (1 + root) ** (1 / 6)
    steps = root ** -np.arange(1, 6)
    return np.asarray((0.5 + np.arange(DRAWS)[:, None] * steps) % 1)


LATTICE = _lattice()


def smallest_equivalence(query_part: float, variants: int) -> float:
    """Return the resolution below which no number of seeds shows equivalence with 90% probability.

    Args:
        query_part: What the draw of queries adds to the variance of a difference: about 2 v / Q for Q queries, where v
            is the variance of what is peculiar to a head and a query; 0 for these queries.
        variants: Number of variants compared with the baseline.
    """
    return float((-special.ndtri(ALPHA / variants) - special.ndtri(0.1)) * np.sqrt(query_part))


@dataclass(frozen=True)
class Design:
    """What chance does to one variant's difference, from which larger and smaller experiments are foreseen.

    The variances are known only as well as the present trials show them. So a promise is kept on the average over the
    true variances that these trials leave possible, each a chi-square draw, and not for one guess of them.

    Attributes:
        difference: The present difference.
        comparisons: Number of variants compared with the baseline.
    """

    difference: Difference
    comparisons: int

    @property
    def seeds(self) -> int:
        """The present number of the variant's seeds."""
        return self.difference.seeds

    @property
    def queries(self) -> tuple[int, ...]:
        """The present number of queries of each data set."""
        return self.difference.queries

    def smallest_shown(self, seeds: int | None = None, more_queries: float = 1.0, *, new_queries: bool = True) -> float:
        """Return the true difference that is shown with 80% probability.

        Args:
            seeds: Number of the variant's seeds, with the baseline's in proportion; None for the present ones.
            more_queries: Number of queries of every data set, as a multiple of the present one.
            new_queries: Whether for new queries, or for these.
        """
        errors, limits = self._foreseen(seeds, more_queries, new_queries=new_queries)
        low, high = 0.0, float(np.quantile(limits * errors, POWER) + 4 * np.max(errors))
        for _ in range(40):
            middle = (low + high) / 2
            shown = float(np.mean(special.ndtr(middle / errors - limits)))
            low, high = (low, middle) if shown >= POWER else (middle, high)
        return high

    def seeds_needed(self, difference: float, *, new_queries: bool = True) -> int | None:
        """Return the least number of seeds, from 3 on, that shows a difference with the present queries.

        Returns:
            None where 100 seeds do not show it.
        """
        if self.smallest_shown(MOST_SEEDS, new_queries=new_queries) > difference:
            return None
        low, high = 2, MOST_SEEDS
        while high - low > 1:
            middle = (low + high) // 2
            enough = self.smallest_shown(middle, new_queries=new_queries) <= difference
            low, high = (low, middle) if enough else (middle, high)
        return high

    def queries_needed(self, difference: float) -> int | None:
        """Return the least number of queries, all data sets together, that shows a difference with the present seeds.

        Returns:
            None where 1000 times the present queries do not show it.
        """
        if self.smallest_shown(None, MOST_QUERIES) > difference:
            return None
        low, high = 0.0, MOST_QUERIES
        while high - low > 1e-3 * high:
            middle = (low + high) / 2 if low else high / 8
            enough = self.smallest_shown(None, middle) <= difference
            low, high = (low, middle) if enough else (middle, high)
        return max(2 * len(self.difference.queries), round(high * sum(self.difference.queries)))

    def _foreseen(self, seeds: int | None, more_queries: float, *, new_queries: bool) -> tuple[FloatArray, FloatArray]:
        """Return true standard errors, and the critical values of a difference in such units, of shape (DRAWS,)."""
        one = self.difference
        factor = 1.0 if seeds is None else seeds / one.seeds
        terms, over_seeds, shared = [], 0.0, 0.0
        for place, part in enumerate(one.parts):
            count = max(2, round(part.seeds * factor))
            kept = 1 + part.noise / part.variance * (1 / more_queries - 1) if part.variance else 1.0
            size = part.variance * kept / count
            terms.append((size * _drawn(part.df, place), _df(part, count)))
            over_seeds += size
            shared += size if part is one.shared else 0.0
        if new_queries:
            between = one.between * _drawn(one.query_df, 3)
            query_part = np.maximum(between - one.noise, 0.0) / more_queries
            terms.append((query_part, max(1.0, one.query_df * more_queries)))
        errors = np.sqrt(np.maximum(sum(size for size, _ in terms), 1e-18))
        dfs = degrees_of_freedom(terms)
        z = critical(shared / over_seeds if over_seeds else 0.0, self.comparisons, ALPHA)
        return errors, special.stdtrit(dfs, special.ndtr(z)) / np.sqrt(_drawn(dfs, 4))


def _drawn(df: float | FloatArray, place: int) -> FloatArray:
    """Return by which factors the truth may differ from a variance with so many degrees of freedom."""
    return np.asarray(df / (2 * special.gammaincinv(df / 2, LATTICE[:, place])))


def _df(part: Part, seeds: int) -> float:
    return seeds - 1 + (part.likeness * lent(seeds, part.lenders * (seeds - 1.0)) if part.lenders else 0.0)
