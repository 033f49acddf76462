"""The difference between a variant and the baseline, with the p-values and intervals that its parts give."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

__all__ = ["Difference", "Estimate", "Part", "degrees_of_freedom"]

SATTERTHWAITE = 1 / 3
"""Weight of Satterthwaite's degrees of freedom in a geometric mean with the harmonic ones."""

TINY = 1e-9


@dataclass(frozen=True)
class Part:
    """A part of the squared standard error that seeds give.

    Attributes:
        variance: Variance of one seed's mean.
        noise: The part of ``variance`` that is seed-by-query noise, which more queries would reduce.
        seeds: Number of seeds that it is divided by.
        df: Degrees of freedom of ``variance``.
        lenders: Number of other variants that it borrows from.
        likeness: How much of what they lend it takes, from 0 to 1.
    """

    variance: float
    noise: float
    seeds: int
    df: float
    lenders: int = 0
    likeness: float = 1.0


@dataclass(frozen=True)
class Estimate:
    """What is known about a mean.

    Attributes:
        mean: The mean.
        standard_error: Its standard error.
        df: Degrees of freedom of the standard error.
        correlation: Correlation with the other differences.
        narrower: An estimate of the same mean with fewer sources of chance. Nothing is surer here than it is there,
            although one more source may come with so many degrees of freedom that Student's t would say so.
    """

    mean: float
    standard_error: float
    df: float
    correlation: float = 0.0
    narrower: "Estimate | None" = None

    def p_value(self, strictness: float = 1.0) -> float:
        """Return the two-sided p-value of a true mean of 0.

        Args:
            strictness: Factor by which the critical value on the normal scale is larger than that of a single test. It
                does not apply to ``narrower``.
        """
        if self.standard_error == 0:
            return 1.0 if self.mean == 0 else 0.0
        own = 2 * _relaxed(special.stdtr(self.df, -abs(self.mean) / self.standard_error), strictness)
        return max(own, self.narrower.p_value()) if self.narrower else own

    def equivalence_p(self, resolution: float, strictness: float = 1.0) -> float:
        """Return the p-value of a true mean of ``resolution`` or more, either way (two one-sided tests)."""
        if self.standard_error == 0:
            return float(abs(self.mean) >= resolution)
        nearest = max(self.mean - resolution, -self.mean - resolution)
        own = _relaxed(special.stdtr(self.df, nearest / self.standard_error), strictness)
        return max(own, self.narrower.equivalence_p(resolution)) if self.narrower else own

    def half_width(self, z: float, strictness: float = 1.0) -> float:
        """Return half the width of the interval whose critical value is z on the normal scale."""
        own = float(special.stdtrit(self.df, special.ndtr(strictness * z))) * self.standard_error
        return max(own, self.narrower.half_width(z)) if self.narrower else own


@dataclass(frozen=True)
class Difference:
    """A variant's mean difference to the baseline, and what chance does to it.

    Attributes:
        mean: The difference of the means over data sets, seeds and queries.
        own: The part of the variant's seeds.
        shared: The part of the baseline's seeds, which all differences have in common.
        start: The part of a start that the variant shares with variants other than the baseline.
        between: Variance of ``mean`` through queries, noise included.
        noise: The part of ``between`` that is seed-by-query noise; 0 for single trials.
        query_df: Degrees of freedom of ``between``.
        queries: Number of queries of each data set.
        seeds: Number of the variant's seeds; of common seeds for paired ones.
        baseline_seeds: Number of the baseline's seeds.
        paired: Whether the two are paired by seed.
        ahead: For paired ones, the number of seeds in which the variant scores above the baseline.
    """

    mean: float
    own: Part
    shared: Part
    start: Part | None
    between: float
    noise: float
    query_df: float
    queries: tuple[int, ...]
    seeds: int
    baseline_seeds: int
    paired: bool
    ahead: int | None

    @property
    def fixed(self) -> bool:
        """Whether this is a difference of two single trials, about which only new queries say more."""
        return self.seeds == self.baseline_seeds == 1

    @property
    def query_part(self) -> float:
        """What the draw of queries adds to the squared standard error."""
        return max(0.0, self.between - self.noise)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What seeds add to it; nothing for two single trials."""
        if self.fixed:
            return ()
        return (self.own, self.shared) if self.start is None else (self.own, self.shared, self.start)

    def estimate(self, *, new_queries: bool) -> Estimate:
        """Return the difference with its standard error, for new queries or for these."""
        terms = [(part.variance / part.seeds, part.df) for part in self.parts]
        seeds = sum(size for size, _ in terms)
        if new_queries:
            terms.append((self.query_part, self.query_df))
        variance = sum(size for size, _ in terms)
        if variance == 0:
            return Estimate(self.mean, 0.0, 1.0)
        correlation = self.shared.variance / self.shared.seeds / seeds if seeds else 0.0
        narrower = self.estimate(new_queries=False) if new_queries and seeds else None
        return Estimate(self.mean, float(np.sqrt(variance)), float(degrees_of_freedom(terms)), correlation, narrower)


def degrees_of_freedom(terms: Sequence[tuple[Any, Any]]) -> Any:
    """Return the degrees of freedom of a sum of variances.

    Satterthwaite's formula (Biometrics Bulletin 2, 1946) gives too many where one of them came out small by chance, the
    harmonic mean weighted by their sizes always too few. This is between the two.

    Args:
        terms: The size and the degrees of freedom of each, numbers or arrays.
    """
    # Where all are 0 they count alike.
    nothing = sum(size for size, _ in terms) == 0
    terms = [(size + nothing, df) for size, df in terms]
    total = sum(size for size, _ in terms)
    harmonic = total / sum(size / np.maximum(df, TINY) for size, df in terms)
    satterthwaite = total**2 / sum(size**2 / np.maximum(df, TINY) for size, df in terms)
    return harmonic ** (1 - SATTERTHWAITE) * satterthwaite**SATTERTHWAITE


def _relaxed(tail: float, strictness: float) -> float:
    """Return the one-sided p-value of a normal value that is smaller by a factor; p-values from 0.5 on stay."""
    return float(special.ndtr(special.ndtri(tail) / strictness)) if strictness != 1 and tail < 0.5 else float(tail)
