"""Every variant against every other: groups of indistinguishable variants, and what moves a score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.verdicts.difference import Difference
from eval.verdicts.judge import MINIMUM_SEEDS, Verdict
from eval.verdicts.multiple import holm
from eval.verdicts.power import ALPHA
from eval.verdicts.scores import Scores
from eval.verdicts.variance import differences

__all__ = ["Pairs", "Shares", "compare_all", "group_letters", "letters_of", "variance_shares"]


@dataclass(frozen=True)
class Pairs:
    """All pairs of variants that have enough seeds.

    Attributes:
        names: The variants, best mean first.
        differences: For each pair of names the difference of the first to the second.
    """

    names: tuple[str, ...]
    differences: Mapping[tuple[str, str], Difference]


@dataclass(frozen=True)
class Shares:
    """What moves a mean score, each as a standard deviation in the measure's own unit.

    Attributes:
        head: Between heads, had each been trained with endless seeds and judged by endless queries.
        learning_rate: Between learning rates of one head; None where no head was trained with two.
        seed: Between trials of one variant.
        queries: Between draws of as many queries, for a score.
        queries_paired: The same for a difference of two variants, where the queries' difficulty cancels.
    """

    head: float
    learning_rate: float | None
    seed: float
    queries: float
    queries_paired: float


def compare_all(scores: Mapping[str, Scores]) -> Pairs:
    """Compare all variants in pairs, except those with too few seeds."""
    enough = {name: one for name, one in scores.items() if len(one.seeds) >= MINIMUM_SEEDS}
    names = sorted(enough, key=lambda name: (-float(enough[name].means().mean()), name))
    found: dict[tuple[str, str], Difference] = {}
    for place, second in enumerate(names):
        found |= {(first, second): one for first, one in differences(enough, second).items() if first in names[:place]}
    return Pairs(tuple(names), found)


def group_letters(pairs: Pairs, verdicts: Mapping[str, Verdict], baseline: str) -> dict[str, tuple[str, ...]]:
    """Give each variant letters: two variants that share a letter are indistinguishable.

    A variant differs from the baseline where its verdict for new queries says so. All other pairs are corrected
    together, by Holm's method.

    Args:
        pairs: The comparison of all.
        verdicts: Each variant's verdict against the baseline.
        baseline: The baseline's name.

    Returns:
        The letters of each variant, the best variant's first.
    """
    others = [pair for pair in pairs.differences if baseline not in pair]
    adjusted = holm([pairs.differences[pair].estimate(new_queries=True).p_value() for pair in others])
    differ = [pair for pair, p_value in zip(others, adjusted, strict=True) if p_value < ALPHA]
    differ += [(baseline, name) for name, verdict in verdicts.items() if verdict.word in ("better", "worse")]
    return letters_of(pairs.names, differ)


def letters_of(names: Sequence[str], differ: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Give letters to names, so that two share one exactly where they are not listed in ``differ``.

    The algorithm is Piepho's (An algorithm for a letter-based representation of all-pairwise comparisons, Journal of
    Computational and Graphical Statistics 13, 2004): start with one group of all, split it at each pair that differs,
    and drop groups that lie within others.
    """
    columns = [frozenset(names)]
    for first, second in differ:
        split = []
        for column in columns:
            both = first in column and second in column
            split += [column - {first}, column - {second}] if both else [column]
        columns = _maximal(split)
    place = {name: index for index, name in enumerate(names)}
    columns.sort(key=lambda column: sorted(place[name] for name in column))
    return {name: tuple(_letter(i) for i, column in enumerate(columns) if name in column) for name in names}


def variance_shares(
    scores: Mapping[str, Scores], pairs: Pairs, heads: Mapping[str, str], rates: Mapping[str, float | None]
) -> Shares | None:
    """Estimate what moves a score.

    Half the mean squared difference of two members is a factor's variance, once the squared standard error of the
    difference, which chance alone would have given, is taken off.

    Args:
        scores: The variants' scores.
        pairs: Their comparison.
        heads: The head of each variant; two variants may have one head and differ in the learning rate.
        rates: The learning rate of each variant.

    Returns:
        The shares, or None where fewer than two variants have enough seeds.
    """
    if not pairs.differences:
        return None
    one_head = [pair for pair in pairs.differences if heads[pair[0]] == heads[pair[1]]]
    tuned = [pair for pair in one_head if rates[pair[0]] != rates[pair[1]]]
    headed = [pair for pair in pairs.differences if pair not in one_head]
    chosen = [scores[name] for name in pairs.names]
    return Shares(
        head=_between(pairs, headed) or 0.0,
        learning_rate=_between(pairs, tuned),
        seed=_root_mean([float(np.var(one.means(), ddof=1)) for one in chosen]),
        queries=_root_mean([_query_variance(one) for one in chosen]),
        queries_paired=_root_mean([one.query_part for one in pairs.differences.values()]),
    )


def _between(pairs: Pairs, chosen: Sequence[tuple[str, str]]) -> float | None:
    if not chosen:
        return None
    estimates = [pairs.differences[pair].estimate(new_queries=True) for pair in chosen]
    excess = float(np.mean([one.mean**2 - one.standard_error**2 for one in estimates]))
    return float(np.sqrt(max(0.0, excess) / 2))


def _query_variance(one: Scores) -> float:
    parts = [table.mean(axis=0).var(ddof=1) / table.shape[1] for table in one.tables]
    return float(np.sum(parts)) / len(parts) ** 2


def _root_mean(variances: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(variances)))


def _maximal(columns: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """Drop groups that lie within another, keeping the first of equal ones."""
    distinct = list(dict.fromkeys(columns))
    return [column for column in distinct if not any(column < other for other in distinct)]


def _letter(index: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    letters = ""
    index += 1
    while index > 0:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters
