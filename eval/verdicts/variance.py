"""How far chance moves a difference: its squared standard error, taken apart by where the chance comes from.

One variant's scores on one data set are a table, seeds by queries, with two-way crossed random effects (Searle,
Casella and McCulloch, Variance Components, 1992)::

    y[s, q] = mean + seed[s] + query[q] + noise[s, q]

Several data sets weigh the same, as in BEIR, and are fixed: they are the suite that was asked about. A seed's effect is
its effect on the suite's mean, because one trained model serves every data set.

The difference of a variant v and the baseline b over S_v and S_b seeds has::

    SE^2 = s_v^2 / S_v + s_b^2 / S_b + q

``s^2`` is the sample variance of the per-seed means, which includes what the noise does; ``q`` is what the draw of
queries adds, from the analysis of variance. Without ``q`` the standard error is for these queries. Variants that share
a start with the baseline are paired by seed: ``s_v^2`` and ``s_b^2`` then come from the paired differences.

Few seeds give a poor variance, so each variant borrows from the others, as gene-expression studies with few replicates
do (Smyth, Statistical Applications in Genetics and Molecular Biology 3, 2004). A variant that scatters more than the
others borrows little, and the baseline borrows nothing, because its luck is in every difference.
docs/method/verdicts.md has every formula; ``benchmarks/calibration.py`` measures what they give.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from eval.verdicts.difference import Difference, Estimate, Part
from eval.verdicts.scores import FloatArray, Scores
from projheads.errors import ProjheadsError

__all__ = [
    "Series",
    "borrow",
    "differences",
    "lent",
    "paired_difference",
    "query_variance",
    "scales_of",
    "summarise",
    "take_apart",
]

LEAST_LENT, MOST_LENT = 4.0, 6.0
"""Most degrees of freedom that the others' variances count for, at three seeds and from five on."""

UNLIKE = 3
"""What a variant borrows falls with this power of how many times its variance exceeds the others'."""

OUTLYING = 5.0
"""A variance counts among the others' for at most this many times their median."""

HALF_A_FLIP = 0.5
"""Flips from one end of the scale to the other that are assumed beside those that were seen (Jeffreys' prior)."""

PAIRED_SEEDS = 3
"""Fewest common seeds by which two variants are paired."""


@dataclass(frozen=True)
class Series:
    """One table of scores or of paired differences, summarised.

    Attributes:
        seeds: The seeds.
        means: The suite's mean of each.
        by_query: For each data set the mean over seeds of each query.
        noise: For each data set the variance of a cell's noise; 0 with one seed.
        scales: For each data set how far apart its scores lie.
    """

    seeds: tuple[int, ...]
    means: FloatArray
    by_query: tuple[FloatArray, ...]
    noise: tuple[float, ...]
    scales: tuple[float, ...]

    @property
    def seed_noise(self) -> float:
        """What the noise gives the variance of one seed's mean."""
        parts = [noise / len(queries) for noise, queries in zip(self.noise, self.by_query, strict=True)]
        return sum(parts) / len(parts) ** 2

    @property
    def variance(self) -> float:
        """Variance of one seed's mean: as sampled, but at least what the noise gives it."""
        sampled = float(self.means.var(ddof=1)) if len(self.seeds) > 1 else 0.0
        return max(sampled, self.seed_noise)

    @property
    def df(self) -> int:
        """Degrees of freedom of ``variance``."""
        return len(self.seeds) - 1


def differences(scores: Mapping[str, Scores], baseline: str) -> dict[str, Difference]:
    """Return every variant's difference to the baseline, in the order of ``scores``.

    Args:
        scores: The variants' scores, the baseline's among them, all on the same data sets and queries.
        baseline: Its name.

    Raises:
        ProjheadsError: If the variants were scored on different queries.
    """
    scales = scales_of(scores)
    base = scores[baseline]
    whole = {name: summarise(one.seeds, one.tables, scales) for name, one in scores.items()}
    common = {name: _paired_seeds(one, base) for name, one in scores.items() if name != baseline}
    series = {
        name: summarise(seeds, [a - b for a, b in zip(scores[name].at(seeds), base.at(seeds), strict=True)], scales)
        if seeds
        else whole[name]
        for name, seeds in common.items()
    }
    parts: dict[str, tuple[Part, Part]] = {}
    for paired, group in dict.fromkeys((bool(common[name]), scores[name].start_group) for name in common):
        members = {n: series[n] for n in common if (bool(common[n]), scores[n].start_group) == (paired, group)}
        lender = whole[baseline] if group is None and base.start_group is None else None
        parts |= _family(members, shares=group is not None, lender=lender)
    luck = Part(whole[baseline].variance, whole[baseline].seed_noise, len(base.seeds), whole[baseline].df)
    found = {}
    for name, seeds in common.items():
        own, start = parts[name]
        if seeds:
            found[name] = _difference(series[name], None, own, start, None)
        else:
            found[name] = _difference(whole[name], whole[baseline], own, luck, start if start.variance else None)
    return found


def paired_difference(changed: Scores, original: Scores) -> Estimate:
    """Return the mean difference of two sets of scores of the same trials, for new seeds and queries.

    With one seed the standard error is for new queries and this trial.
    """
    scales = scales_of({"a": changed, "b": original})
    tables = [a - b for a, b in zip(changed.tables, original.at(changed.seeds), strict=True)]
    one = summarise(changed.seeds, tables, scales)
    own = Part(one.variance, one.seed_noise, len(one.seeds), one.df)
    return _difference(one, None, own, Part(0.0, 0.0, 1, 1.0), None).estimate(new_queries=True)


def take_apart(table: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Return the means of the seeds and of the queries of a table (seeds, queries), and its noise's variance.

    The noise's is the residual mean square of the two-way analysis of variance; 0 with one seed.
    """
    seeds, queries = table.shape
    seed_means, query_means = table.mean(axis=1), table.mean(axis=0)
    if seeds == 1:
        return seed_means, query_means, 0.0
    rest = table - query_means - (seed_means - seed_means.mean())[:, None]
    return seed_means, query_means, float(np.vdot(rest, rest)) / ((seeds - 1) * (queries - 1))


def lent(seeds: int, others: float) -> float:
    """Return the degrees of freedom that the others' variances count for.

    Args:
        seeds: Number of the borrower's seeds.
        others: Sum of the others' degrees of freedom.
    """
    return 1 / (1 / min(max(seeds + 1.0, LEAST_LENT), MOST_LENT) + 1 / others) if others > 0 else 0.0


def borrow(
    variances: Sequence[float], dfs: Sequence[int], lenders: Sequence[int] = ()
) -> list[tuple[float, float, float]]:
    """Average each variance over seeds with the others'.

    Args:
        variances: Sample variances over seeds.
        dfs: Their degrees of freedom; those with none neither give nor take.
        lenders: Places of variances that lend only, and are returned as they are.

    Returns:
        For each its variance, the degrees of freedom that it is worth, and how much it takes of what the others lend.
    """
    result = []
    for place, (variance, df) in enumerate(zip(variances, dfs, strict=True)):
        others = [pair for at, pair in enumerate(zip(variances, dfs, strict=True)) if at != place and pair[1] > 0]
        worth, likeness = float(df), 1.0
        if others and df > 0 and place not in lenders:
            most, total = OUTLYING * median(one for one, _ in others), sum(weight for _, weight in others)
            mean = sum(weight * min(one, most) for one, weight in others) / total
            likeness = min(1.0, mean / variance) ** UNLIKE if variance else 1.0
            g = likeness * lent(df + 1, total)
            variance, worth = (df * variance + g * mean) / (df + g), df + g
        result.append((variance, worth, likeness))
    return result


def _family(members: Mapping[str, Series], *, shares: bool, lender: Series | None) -> dict[str, tuple[Part, Part]]:
    """Return the own and the shared part of every member's variance.

    Args:
        members: Variants that borrow from each other.
        shares: Whether seed n does something to all of them: paired differences have the baseline in common, variants
            of one start that start. What they have in common is known from its own seeds only, however many share it.
        lender: One more series, that lends only.
    """
    every = [*members.values(), *([lender] if lender else [])]
    borrowed = borrow([one.variance for one in every], [one.df for one in every], range(len(members), len(every)))
    common: dict[tuple[int, ...], float | None] = {}
    parts = {}
    for (name, one), (variance, df, likeness) in zip(members.items(), borrowed, strict=False):
        if shares and one.seeds not in common:
            common[one.seeds] = _covariance(members, one.seeds)
        covariance = common.get(one.seeds, 0.0)
        if covariance is None:
            variance, df, likeness = one.variance, float(one.df), 0.0
        shared = min(variance, covariance or 0.0)
        share = shared / variance if variance else 0.0
        noise, count = min(one.seed_noise, variance), len(one.seeds)
        parts[name] = (
            Part(variance - shared, noise * (1 - share), count, df, len(every) - 1, likeness),
            Part(shared, noise * share, count, float(one.df)),
        )
    return parts


def _covariance(members: Mapping[str, Series], seeds: tuple[int, ...]) -> float | None:
    """Return the mean covariance over these seeds of those members that have them all, at least 0; None for one."""
    rows = [
        one.means if one.seeds == seeds else one.means[[one.seeds.index(seed) for seed in seeds]]
        for one in members.values()
        if set(seeds) <= set(one.seeds)
    ]
    count = len(rows)
    if count < 2 or len(seeds) < 2:
        return None
    table = np.stack(rows)
    total, own = table.sum(axis=0).var(ddof=1), table.var(axis=1, ddof=1).sum()
    return max(0.0, float(total - own) / (count * (count - 1)))


def _difference(one: Series, base: Series | None, own: Part, shared: Part, start: Part | None) -> Difference:
    """Put a difference together: of a variant and the baseline, or, without the latter, from paired differences."""
    by_query = one.by_query if base is None else [a - b for a, b in zip(one.by_query, base.by_query, strict=True)]
    cells = np.array(one.noise) / len(one.seeds)
    if base is not None:
        cells = cells + np.array(base.noise) / len(base.seeds)
    between, noise, df = query_variance(by_query, cells, one.scales, len(one.seeds))
    return Difference(
        mean=float(one.means.mean() - (0.0 if base is None else base.means.mean())),
        own=own,
        shared=shared,
        start=start,
        between=between,
        noise=noise,
        query_df=df,
        queries=tuple(len(queries) for queries in by_query),
        seeds=len(one.seeds),
        baseline_seeds=len((base or one).seeds),
        paired=base is None,
        ahead=int((one.means > 0).sum()) if base is None else None,
    )


def query_variance(
    by_query: Sequence[FloatArray], cells: FloatArray, scales: Sequence[float], seeds: int
) -> tuple[float, float, float]:
    """Return the variance of a suite's mean through queries, the part of it that is noise, and degrees of freedom.

    Args:
        by_query: For each data set a value of each query.
        cells: For each data set the variance of such a value's noise.
        scales: For each data set how far apart its scores lie.
        seeds: Number of seeds; half a flip among all their queries is the least variance.
    """
    counts = np.array([len(queries) for queries in by_query])
    least = HALF_A_FLIP * np.square(scales) / (seeds * counts + 1)
    between = np.maximum([queries.var(ddof=1) for queries in by_query], least) / counts
    df = between.sum() ** 2 / np.sum(between**2 / (counts - 1)) if between.any() else (counts - 1).sum()
    return float(between.sum()) / len(counts) ** 2, float(np.sum(cells / counts)) / len(counts) ** 2, float(df)


def summarise(seeds: Sequence[int], tables: Sequence[FloatArray], scales: Sequence[float]) -> Series:
    """Summarise one table for each data set, of shape (seeds, queries)."""
    taken = [take_apart(table) for table in tables]
    return Series(
        seeds=tuple(seeds),
        means=np.mean([means for means, _, _ in taken], axis=0),
        by_query=tuple(by_query for _, by_query, _ in taken),
        noise=tuple(
            max(noise, HALF_A_FLIP * scale**2 / (table.size + 1)) if len(seeds) > 1 else 0.0
            for table, (_, _, noise), scale in zip(tables, taken, scales, strict=True)
        ),
        scales=tuple(scales),
    )


def scales_of(scores: Mapping[str, Scores]) -> list[float]:
    """Return how far apart the scores of each data set lie, having checked that all are of the same queries."""
    shapes = {tuple(table.shape[1] for table in one.tables) for one in scores.values()}
    if len(shapes) > 1:
        raise ProjheadsError("the variants were scored on different queries, so they cannot be compared")
    every = zip(*(one.tables for one in scores.values()), strict=True)
    return [max(float(t.max()) for t in tables) - min(float(t.min()) for t in tables) for tables in every]


def _paired_seeds(variant: Scores, base: Scores) -> list[int]:
    """Return the seeds by which a variant and the baseline are paired; none where they share no start."""
    if variant.start_group is None or variant.start_group != base.start_group:
        return []
    common = [seed for seed in variant.seeds if seed in base.seeds]
    return common if len(common) >= PAIRED_SEEDS else []
