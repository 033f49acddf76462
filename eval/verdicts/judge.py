"""From scores to verdicts: each variant against the baseline, in words that a reader can rely on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from eval.verdicts.variance import Estimate, Levels, Scores, borrow, estimate, paired_levels

__all__ = ["ALPHA", "MINIMUM_SEEDS", "POWER", "Verdict", "Word", "holm", "judge", "smallest_shown", "weigh"]

Word = Literal["better", "worse", "no difference shown", "too few seeds"]

ALPHA = 0.05
"""Chance, at most, that any variant is called better or worse where none is."""

POWER = 0.8
"""Chance with which the smallest difference that an experiment can show is shown."""

MINIMUM_SEEDS = 3
"""With fewer seeds the scatter over seeds is not known well enough for any verdict."""


@dataclass(frozen=True)
class Verdict:
    """One variant against the baseline. Differences are in the measure's own unit (0 to 1).

    Attributes:
        difference: Mean difference, paired by query and seed.
        low: Lower end of its 95% interval.
        high: Upper end. With one seed the interval speaks about new queries for these very trials only.
        standard_error: Standard error of the difference.
        df: Degrees of freedom of the standard error.
        p_value: Two-sided, of no difference.
        adjusted_p: The same after Holm's correction over the variants.
        smallest_shown: Difference that an experiment like this one shows with 80% probability; None with one seed.
        beats: Probability that a new seed of the variant scores above a new seed of the baseline; None with one seed.
        seeds: Number of seeds that both have.
        word: The verdict.
    """

    difference: float
    low: float
    high: float
    standard_error: float
    df: float
    p_value: float
    adjusted_p: float
    smallest_shown: float | None
    beats: float | None
    seeds: int
    word: Word


def judge(scores: Mapping[str, Scores], baseline: str) -> dict[str, Verdict]:
    """Compare every variant with the baseline.

    Args:
        scores: The variants' scores, the baseline's among them, all on the same data sets and queries.
        baseline: Its name.

    Returns:
        A verdict for each variant but the baseline, in the order of ``scores``.

    Raises:
        ProjheadsError: If a variant shares no seed with the baseline.
    """
    names = [name for name in scores if name != baseline]
    parts = [paired_levels(scores[name], scores[baseline]) for name in names]
    estimates, adjusted = weigh(parts)
    judged = max(1, sum(part.seeds >= MINIMUM_SEEDS for part in parts))
    scatter = _own_scatter(scores)
    verdicts = {}
    for index, name in enumerate(names):
        part, one = parts[index], estimates[index]
        low, high = one.interval()
        many = part.seeds > 1
        verdicts[name] = Verdict(
            difference=one.mean,
            low=low,
            high=high,
            standard_error=one.standard_error,
            df=one.df,
            p_value=one.p_value(),
            adjusted_p=adjusted[index],
            smallest_shown=smallest_shown(one.standard_error, one.df, comparisons=judged) if many else None,
            beats=_beats(one.mean, one.standard_error, scatter[name], scatter[baseline]) if many else None,
            seeds=part.seeds,
            word=_word(one.mean, adjusted[index], part.seeds),
        )
    return verdicts


def weigh(parts: Sequence[Levels]) -> tuple[list[Estimate], list[float]]:
    """Estimate each variant's difference to the baseline, and correct its p-value for their number.

    A verdict is refused for too few seeds, not counted among the comparisons that the correction is for.

    Args:
        parts: The variants' paired differences.

    Returns:
        The estimates, and the corrected p-values, 1 for those with too few seeds.
    """
    borrowed = borrow([part.seed_variance for part in parts], [part.seeds for part in parts])
    estimates = [estimate(part, *seed_level) for part, seed_level in zip(parts, borrowed, strict=True)]
    judged = [index for index, part in enumerate(parts) if part.seeds >= MINIMUM_SEEDS]
    adjusted = [1.0] * len(parts)
    for index, p_value in zip(judged, holm([estimates[index].p_value() for index in judged]), strict=True):
        adjusted[index] = p_value
    return estimates, adjusted


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm, A simple sequentially rejective multiple test procedure, 1979)."""
    count = len(p_values)
    adjusted = [1.0] * count
    highest = 0.0
    for step, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - step) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def smallest_shown(standard_error: float, df: float, *, comparisons: int) -> float:
    """Return the true difference that is shown with 80% probability, from the noncentral t distribution.

    Args:
        standard_error: Standard error of a difference.
        df: Its degrees of freedom.
        comparisons: Number of variants compared with the baseline; the first of Holm's steps is taken, the hardest.
    """
    critical = special.stdtrit(df, 1 - ALPHA / (2 * comparisons))
    return float(special.nctdtrinc(df, 1 - POWER, critical)) * standard_error


def _own_scatter(scores: Mapping[str, Scores]) -> dict[str, tuple[float, float]]:
    """Return each variant's variance of a single trial's score over seeds, with its degrees of freedom."""
    variances = [float(np.var(one.means(), ddof=1)) if len(one.seeds) > 1 else 0.0 for one in scores.values()]
    return dict(zip(scores, borrow(variances, [len(one.seeds) for one in scores.values()]), strict=True))


def _beats(mean: float, standard_error: float, variant: tuple[float, float], baseline: tuple[float, float]) -> float:
    """Return the chance that one new trial beats another, from the predictive distribution of their difference."""
    variance = standard_error**2 + variant[0] + baseline[0]
    if variance == 0:
        return 0.5 if mean == 0 else float(mean > 0)
    return float(special.stdtr(min(variant[1], baseline[1]), mean / np.sqrt(variance)))


def _word(mean: float, corrected: float, seeds: int) -> Word:
    if seeds < MINIMUM_SEEDS:
        return "too few seeds"
    if corrected >= ALPHA:
        return "no difference shown"
    return "better" if mean > 0 else "worse"
