"""The statistics under every verdict: a mean difference, and how far chance alone could have moved it.

A difference between two variants on one data set is a table ``D[seed, query]``: seeds are paired because seed n has
the same data order in every trial, queries are paired because everybody answers the same ones. The model is two-way
crossed random effects (Searle, Casella and McCulloch, Variance Components, 1992)::

    D[s, q] = mean + seed[s] + query[q] + noise[s, q]
    Var(mean of D) = V_seed / S + V_query / Q + V_noise / (S Q)

Over several data sets each weighs the same, as BEIR does, and they are fixed: they are the suite that was asked
about. The effect of a seed is then the one it has on the suite's mean, for the same trained model serves them all.

The variance of the mean is estimated in two parts. The spread of the S per-seed means holds ``V_seed / S`` and the
whole of ``V_noise / (S Q)``; what the draw of queries adds, ``V_query / Q``, comes from the analysis of variance and is
never below zero. A bootstrap over both levels cannot do this for a few seeds: it counts the noise up to three times and
shrinks the seeds' part by (S - 1) / S (Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007).

Few seeds make the first part a poor estimate: with 3 of them, Student's t allows 4.3 standard errors. So it borrows
from the other variants of the same experiment, as gene-expression studies with few replicates do (Smyth, Linear models
and empirical Bayes methods, Statistical Applications in Genetics and Molecular Biology 3, 2004): each variance is
averaged with the mean of the others', and that mean never counts for more than ``BORROWED`` degrees of freedom, which
keeps the result honest where heads differ in how much their seeds scatter. A variant that scatters more than the others
allow keeps its own variance, and one that scatters far more lends nothing to the others.

The degrees of freedom of the sum are the mean, harmonic and weighted by the parts, of those of its parts. That is a
little more careful than Satterthwaite's formula, whose answer is far too high when the seeds' part came out small by
chance, and close to weighting the critical values (Cochran and Cox, Experimental Designs, 1957).

``benchmarks/calibration.py`` measures what this gives on simulated and on real experiments without any difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from projheads.errors import ProjheadsError

__all__ = [
    "BORROWED",
    "Estimate",
    "Levels",
    "Scores",
    "borrow",
    "estimate",
    "join_levels",
    "levels",
    "paired_levels",
    "take_apart",
]

FloatArray = NDArray[np.float64]

BORROWED = 8.0
"""Most degrees of freedom that the other variants' scatter over seeds counts for. Variances that differ between heads
with a standard deviation of about 0.5 in their logarithm are worth this many (trigamma(8 / 2) = 0.28)."""

UNLIKE = 0.2
"""A variant whose scatter over seeds would be that large in at most this share of cases, were it like the others',
keeps its own: what is averaged away there would make luck look like a difference."""

STRANGE = 0.01
"""A variant whose scatter over seeds would be that large in at most this share of cases lends none to the others: one
head whose training goes astray must not make every other head's scatter look large."""

OUTLYING = 5.0
"""A variance counts among the others' for at most this many times the median one."""


@dataclass(frozen=True)
class Scores:
    """One variant's per-query scores.

    Attributes:
        seeds: The seeds of its trials.
        tables: For each data set an array (seeds, queries); queries stand in the same order for every variant.
    """

    seeds: tuple[int, ...]
    tables: tuple[FloatArray, ...]

    def means(self) -> FloatArray:
        """Return each seed's mean over data sets of the mean over queries, shape (seeds,)."""
        means: FloatArray = np.mean([table.mean(axis=1) for table in self.tables], axis=0)
        return means

    def only(self, dataset: int) -> "Scores":
        """Return the same scores on one data set alone."""
        return Scores(self.seeds, (self.tables[dataset],))

    def at(self, seeds: Sequence[int]) -> tuple[FloatArray, ...]:
        """Return the tables of these seeds, in this order."""
        if tuple(seeds) == self.seeds:
            return self.tables
        rows = [self.seeds.index(seed) for seed in seeds]
        return tuple(table[rows] for table in self.tables)


@dataclass(frozen=True)
class Levels:
    """A mean and what the two levels of chance do to it.

    Attributes:
        mean: The mean over data sets, seeds and queries.
        seeds: Number of seeds S.
        queries: Number of queries of each data set.
        seed_variance: Sample variance of the per-seed means (S - 1 degrees of freedom); 0 with one seed.
        query_part: What the draw of queries adds to the variance of ``mean``.
        query_df: Degrees of freedom of ``query_part``.
        noise_part: What the seed-by-query noise adds to the variance of ``mean``; it is within ``seed_variance / S``.
    """

    mean: float
    seeds: int
    queries: tuple[int, ...]
    seed_variance: float
    query_part: float
    query_df: float
    noise_part: float


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error, and Student's t at ``df`` degrees of freedom for its distribution."""

    mean: float
    standard_error: float
    df: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the two ends of the interval that covers the true mean at this level."""
        half = float(special.stdtrit(self.df, (1 + level) / 2)) * self.standard_error
        return self.mean - half, self.mean + half

    def p_value(self) -> float:
        """Return the two-sided p-value of a true mean of 0."""
        if self.standard_error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * special.stdtr(self.df, -abs(self.mean) / self.standard_error))


def paired_levels(variant: Scores, baseline: Scores) -> Levels:
    """Return the levels of the difference of two variants over the seeds that both have.

    Raises:
        ProjheadsError: If they share no seed, or were scored on other queries.
    """
    common = [seed for seed in variant.seeds if seed in baseline.seeds]
    if not common:
        raise ProjheadsError(
            "two variants share no seed, so they cannot be compared in pairs; train both with one seed"
        )
    mine, theirs = variant.at(common), baseline.at(common)
    if [table.shape for table in mine] != [table.shape for table in theirs]:
        raise ProjheadsError("two variants were scored on other queries, so they cannot be compared in pairs")
    return levels([a - b for a, b in zip(mine, theirs, strict=True)])


def levels(tables: Sequence[FloatArray]) -> Levels:
    """Take the mean of per-query values apart into its levels of chance.

    Args:
        tables: For each data set an array (seeds, queries) of at least one seed and two queries.

    Returns:
        The levels; see the module's text for the model.
    """
    taken = [take_apart(table) for table in tables]
    seed_means, between, noise = (np.array(part) for part in zip(*taken, strict=True))
    return join_levels(seed_means, between, noise, [table.shape[1] for table in tables])


def take_apart(table: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Take per-query values of one data set apart.

    Args:
        table: Shape (..., seeds, queries).

    Returns:
        The per-seed means, shape (..., seeds); the variance of the mean through queries, noise included; and the part
        of it that is noise, 0 with one seed; both of shape (...).
    """
    seeds, queries = table.shape[-2:]
    seed_means = table.mean(axis=-1)
    query_means = table.mean(axis=-2)
    between = query_means.var(axis=-1, ddof=1) / queries
    if seeds == 1:
        return seed_means, between, np.zeros_like(between)
    within = table - query_means[..., None, :]
    over_seeds = queries * np.square(seed_means - seed_means.mean(axis=-1, keepdims=True)).sum(axis=-1)
    # Never below zero through rounding.
    residual = np.maximum(0.0, np.einsum("...sq,...sq->...", within, within) - over_seeds)
    return seed_means, between, residual / ((seeds - 1) * (queries - 1)) / (seeds * queries)


def join_levels(seed_means: FloatArray, between: FloatArray, noise: FloatArray, queries: Sequence[int]) -> Levels:
    """Put what ``take_apart`` gave for each data set together.

    Args:
        seed_means: Shape (data sets, seeds).
        between: Shape (data sets,).
        noise: Shape (data sets,).
        queries: Number of queries of each data set.
    """
    count, seeds = seed_means.shape
    means = seed_means.mean(axis=0)
    dfs = np.array(queries) - 1
    query_df = between.sum() ** 2 / np.sum(between**2 / dfs) if between.any() else dfs.sum()
    return Levels(
        mean=float(means.mean()),
        seeds=seeds,
        queries=tuple(queries),
        seed_variance=float(means.var(ddof=1)) if seeds > 1 else 0.0,
        query_part=max(0.0, float(between.sum() - noise.sum()) / count**2),
        query_df=float(query_df),
        noise_part=float(noise.sum()) / count**2,
    )


def borrow(variances: Sequence[float], seeds: Sequence[int]) -> list[tuple[float, float]]:
    """Average each variance over seeds with those of the other variants.

    Args:
        variances: Sample variance over seeds of each variant's difference to the baseline.
        seeds: Number of seeds of each; those with one seed neither give nor take.

    Returns:
        For each variant its variance and the degrees of freedom that it is worth (0 with one seed).
    """
    own, dfs = np.array(variances, dtype=np.float64), np.array(seeds, dtype=np.float64) - 1
    givers = dfs > 0
    if givers.sum() < 2:
        return list(zip(own.tolist(), dfs.tolist(), strict=True))
    given = np.minimum(own, OUTLYING * np.median(own[givers]))
    everybody = [_others(given, dfs, givers, index) for index in range(len(own))]
    like = [_like(*one, STRANGE) for one in zip(own, dfs, everybody, strict=True)]
    lenders = givers & np.array(like)
    result = []
    for index, (variance, df) in enumerate(zip(own.tolist(), dfs.tolist(), strict=True)):
        others = _others(given, dfs, lenders, index)
        if _like(variance, df, others, UNLIKE):
            variance, df = (df * variance + others[1] * others[0]) / (df + others[1]), df + others[1]
        result.append((variance, df))
    return result


def _others(given: FloatArray, dfs: FloatArray, lenders: NDArray[np.bool_], index: int) -> tuple[float, float]:
    """Return the mean variance of the other lenders, and the degrees of freedom that it counts for."""
    others = lenders.copy()
    others[index] = False
    if not others.any():
        return 0.0, 0.0
    total = dfs[others].sum()
    # Variances of differences that share a variant correlate by 1/4, so they count for less than their number.
    lent = 1 / (1 / BORROWED + (1 + 0.25 * (others.sum() - 1)) / total)
    return float(dfs[others] @ given[others] / total), float(lent)


def _like(variance: float, df: float, others: tuple[float, float], share: float) -> bool:
    """Return whether a variance could be one of the others: larger ones would come in more than ``share`` of cases."""
    mean, lent = others
    return df > 0 and lent > 0 and bool(variance <= mean * special.fdtri(df, lent, 1 - share))


def estimate(part: Levels, seed_variance: float, seed_df: float) -> Estimate:
    """Put the levels together into a standard error and its degrees of freedom.

    Args:
        part: The levels of a mean.
        seed_variance: Its variance over seeds, own or from ``borrow``.
        seed_df: The degrees of freedom of ``seed_variance``; 0 leaves the seeds out, so that the result speaks about
            new queries for the very models that were trained.
    """
    over_seeds = seed_variance / part.seeds if seed_df > 0 else 0.0
    variance = over_seeds + part.query_part
    if variance == 0:
        return Estimate(part.mean, 0.0, max(seed_df, 1.0))
    inverse_df = part.query_part / part.query_df + (over_seeds / seed_df if seed_df > 0 else 0.0)
    return Estimate(part.mean, float(np.sqrt(variance)), float(variance / inverse_df))
