"""From scores to verdicts: each variant against the baseline, in words that a reader can rely on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import special

from eval.verdicts.difference import Difference
from eval.verdicts.multiple import adjust, critical
from eval.verdicts.power import ALPHA, Design
from eval.verdicts.scores import Scores
from eval.verdicts.variance import borrow, differences

__all__ = ["MINIMUM_SEEDS", "Scope", "Verdict", "Word", "judge", "judge_datasets", "words_of"]

Word = Literal["better", "worse", "equivalent", "no difference shown", "undecided", "too few seeds"]

MINIMUM_SEEDS = 3
"""With fewer seeds the scatter over seeds is not known well enough for any verdict."""


@dataclass(frozen=True)
class Scope:
    """What is known about a difference in one scope: these queries, or new queries of this kind.

    Attributes:
        difference: Mean difference, in the measure's own unit (0 to 1).
        low: Lower end of its simultaneous 95% interval: all variants' intervals cover the truth together. It excludes
            0 exactly where the word is better or worse. None with too few seeds.
        high: Upper end.
        standard_error: Standard error of the difference.
        df: Degrees of freedom of the standard error.
        p_value: Two-sided, of no difference.
        adjusted_p: The same, corrected for the number of variants; 1 with too few seeds.
        equivalent_p: Of a difference beyond the resolution, corrected likewise; None where no resolution was asked for.
        word: The verdict.
    """

    difference: float
    low: float | None
    high: float | None
    standard_error: float
    df: float
    p_value: float
    adjusted_p: float
    equivalent_p: float | None
    word: Word


@dataclass(frozen=True)
class Verdict:
    """One variant against the baseline.

    Attributes:
        these_queries: For the benchmark as it is: new trainings of both, the same queries.
        new_queries: For new queries of this kind: new trainings of both, new queries. With one seed of each it is about
            these two models and new queries.
        seeds: Number of the variant's seeds that count; of common seeds for paired ones.
        baseline_seeds: Number of the baseline's seeds that count.
        fixed: Whether this is a comparison of two fixed models, one seed each.
        ahead: Number of seeds in which the variant scores above the baseline; None where the two share no start, for
            then seed n of one has nothing in common with seed n of the other.
        beats: Probability that a new training of the variant scores above one of the baseline; None with one seed.
        design: What larger experiments would show; None with too few seeds.
    """

    these_queries: Scope
    new_queries: Scope
    seeds: int
    baseline_seeds: int
    fixed: bool
    ahead: int | None
    beats: float | None
    design: Design | None

    @property
    def difference(self) -> float:
        """The mean difference, which is the same in both scopes."""
        return self.new_queries.difference

    @property
    def word(self) -> Word:
        """The verdict about new trainings and new queries, which two fixed models cannot give."""
        return "too few seeds" if self.fixed else self.new_queries.word

    @cached_property
    def smallest_shown(self) -> float | None:
        """The difference on new queries that an experiment like this one shows with 80% probability."""
        return self.design.smallest_shown() if self.design else None

    @cached_property
    def smallest_shown_here(self) -> float | None:
        """The same on these queries."""
        return self.design.smallest_shown(new_queries=False) if self.design and not self.fixed else None

    def queries_needed(self) -> int | None:
        """Return how many queries would show a difference as large as the one that was found; None for none."""
        return self.design.queries_needed(abs(self.difference)) if self.design else None

    def seeds_needed(self, *, new_queries: bool = True) -> int | None:
        """Return how many seeds would show a difference as large as the one that was found; None for none."""
        return self.design.seeds_needed(abs(self.difference), new_queries=new_queries) if self.design else None


def judge(
    scores: Mapping[str, Scores], baseline: str, *, resolution: float | None = None, families: int = 1
) -> dict[str, Verdict]:
    """Compare every variant with the baseline.

    Args:
        scores: The variants' scores, the baseline's among them, all on the same data sets and queries.
        baseline: Its name.
        resolution: Differences smaller than this do not matter: a variant that is shown to differ by less is
            equivalent. None for no such verdict.
        families: Number of calls like this one whose verdicts are read together; ``judge_datasets`` sets it.

    Returns:
        A verdict for each variant but the baseline, in the order of ``scores``.

    Raises:
        ProjheadsError: If the variants were scored on different queries.
    """
    found = differences(scores, baseline)
    count = max(1, sum(_enough(one) or one.fixed for one in found.values()))
    scatter = _own_scatter(scores)
    verdicts = {}
    for name, one in found.items():
        design = Design(one, count * families) if _enough(one) or one.fixed else None
        here = _scope(one, count, families, resolution, new_queries=False)
        new = _scope(one, count, families, resolution, new_queries=True)
        verdicts[name] = Verdict(
            these_queries=here,
            new_queries=new,
            seeds=one.seeds,
            baseline_seeds=one.baseline_seeds,
            fixed=one.fixed,
            ahead=one.ahead,
            beats=_beats(new, scatter[name], scatter[baseline]) if min(one.seeds, one.baseline_seeds) > 1 else None,
            design=design,
        )
    return verdicts


def judge_datasets(
    scores: Mapping[str, Scores], baseline: str, datasets: Sequence[str]
) -> dict[str, dict[str, Verdict]]:
    """Compare on each data set separately, corrected for the number of data sets as well.

    Args:
        scores: The variants' scores.
        baseline: The baseline's name.
        datasets: The names of the data sets, in the order of the tables.

    Returns:
        For each data set the verdicts, of which any is false in at most 5% of experiments without a difference.
    """
    return {
        name: judge({label: one.only(place) for label, one in scores.items()}, baseline, families=len(datasets))
        for place, name in enumerate(datasets)
    }


def words_of(mean: float, adjusted: float, equivalent: float | None) -> Word:
    """Return the verdict that corrected p-values give; a difference that is shown comes before an equivalence."""
    if adjusted < ALPHA:
        return "better" if mean > 0 else "worse"
    if equivalent is None:
        return "no difference shown"
    return "equivalent" if equivalent < ALPHA else "undecided"


def _enough(one: Difference) -> bool:
    return min(one.seeds, one.baseline_seeds) >= MINIMUM_SEEDS


def _scope(one: Difference, count: int, families: int, resolution: float | None, *, new_queries: bool) -> Scope:
    estimate = one.estimate(new_queries=new_queries)
    if not (_enough(one) or (one.fixed and new_queries)):
        return Scope(one.mean, None, None, estimate.standard_error, estimate.df, 1.0, 1.0, None, "too few seeds")
    p_value = estimate.p_value()
    adjusted = min(1.0, families * adjust(p_value, estimate.correlation, count))
    half = estimate.half_width(critical(estimate.correlation, count, ALPHA / families))
    equivalent = None
    if resolution is not None:
        equivalent = min(1.0, families * count * estimate.equivalence_p(resolution))
    return Scope(
        difference=one.mean,
        low=one.mean - half,
        high=one.mean + half,
        standard_error=estimate.standard_error,
        df=estimate.df,
        p_value=p_value,
        adjusted_p=adjusted,
        equivalent_p=equivalent,
        word=words_of(one.mean, adjusted, equivalent),
    )


def _own_scatter(scores: Mapping[str, Scores]) -> dict[str, tuple[float, float]]:
    """Return each variant's variance of a single trial's score over seeds, with its degrees of freedom."""
    variances = [float(np.var(one.means(), ddof=1)) if len(one.seeds) > 1 else 0.0 for one in scores.values()]
    borrowed = borrow(variances, [len(one.seeds) - 1 for one in scores.values()])
    return {name: (variance, df) for name, (variance, df, _) in zip(scores, borrowed, strict=True)}


def _beats(scope: Scope, variant: tuple[float, float], baseline: tuple[float, float]) -> float:
    """Return the chance that one new trial beats another, from the predictive distribution of their difference."""
    variance = scope.standard_error**2 + variant[0] + baseline[0]
    if variance == 0:
        return 0.5 if scope.difference == 0 else float(scope.difference > 0)
    return float(special.stdtr(min(variant[1], baseline[1]), scope.difference / np.sqrt(variance)))
