"""Verdicts while seeds are added: an error rate that holds over all looks, and the race of many variants.

A look is a time at which verdicts were read: a round of an experiment that asks for a resolution, or a finished
experiment to which seeds were added by hand. Reading at every look what a single look would allow makes more false
calls with each; here the first looks ask for more, and what was decided stays decided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from eval.verdicts.difference import Difference
from eval.verdicts.judge import MINIMUM_SEEDS, Word, words_of
from eval.verdicts.multiple import adjust, critical
from eval.verdicts.power import ALPHA, Design
from eval.verdicts.scores import Scores
from eval.verdicts.variance import differences

__all__ = ["BY_HAND", "KAPPA", "Decision", "Look", "Race", "decide", "fresh", "race", "until"]

KAPPA = 1.15
"""Factor on the critical value at every look of an experiment whose greatest number of seeds was fixed before."""

BY_HAND = 1.4
"""The same at every look but the first of an experiment to which seeds are added by hand, without end."""

LOST = 0.05
"""A variant leaves a race if a one-sided test at this level says that the leader is better. It is not corrected for the
number of variants or looks, because a race claims nothing: that would double the trials and find no better winner."""

Look = int | Mapping[str, int]
"""How many seeds each variant had, its first ones: one number for all, or one for each name."""


@dataclass(frozen=True)
class Decision:
    """What is known about one variant after all looks.

    Attributes:
        word: Better, worse or equivalent where that was decided; undecided or too few seeds where it was not.
        look: Place of the look at which it was decided; of the last look where it was not.
        seeds: The variant's seeds that counted at that look.
        baseline_seeds: The baseline's.
        difference: The difference at that look.
        low: Lower end of its interval, at a level that holds over all looks and variants; None with too few seeds.
        high: Upper end.
        adjusted_p: The p-value of no difference, corrected for variants and looks.
        equivalent_p: The same of a difference beyond the resolution; None without one.
        design: What more seeds or queries would show; None with too few seeds. It foresees one look.
    """

    word: Word
    look: int
    seeds: int
    baseline_seeds: int
    difference: float
    low: float | None
    high: float | None
    adjusted_p: float
    equivalent_p: float | None
    design: Design | None

    @property
    def decided(self) -> bool:
        """Whether the variant needs no further seeds."""
        return self.word in ("better", "worse", "equivalent")


@dataclass(frozen=True)
class Race:
    """What is left of many variants.

    Attributes:
        survivors: Those that no other variant was shown to beat, the best mean first.
        lost: Each other variant, with the place of the look at which it left.
        chosen_with: How many seeds each variant had when the last one left: later seeds had no part in the choice.
    """

    survivors: tuple[str, ...]
    lost: Mapping[str, int]
    chosen_with: Mapping[str, int]


def decide(
    scores: Mapping[str, Scores],
    baseline: str,
    looks: Sequence[Look],
    *,
    most: int | None = None,
    resolution: float | None = None,
    new_queries: bool = True,
    families: int = 1,
) -> dict[str, Decision]:
    """Decide each variant at the first look that allows it.

    Args:
        scores: The variants' scores, each with its seeds in the order in which they were trained.
        baseline: The baseline's name.
        looks: Every look so far, the present one last. The result depends on the scores and the looks only, so a
            stopped experiment decides as one that was never stopped.
        most: The most seeds of a variant, fixed before the first look. None for an experiment that was planned with one
            look: the first then counts as any single look, and later ones ask for more.
        resolution: As for ``judge``.
        new_queries: Whether verdicts are about new queries, or about these.
        families: As for ``judge``.

    Returns:
        A decision for each variant but the baseline. Give undecided ones and the baseline further seeds.
    """
    decisions: dict[str, Decision] = {}
    for place, look in enumerate(looks):
        found = differences(until(scores, look), baseline)
        count = len(found)
        for name, one in found.items():
            if name not in decisions or not decisions[name].decided:
                strictness = _strictness(one, place, most, new_queries=new_queries)
                decisions[name] = _decision(one, place, count, families, strictness, resolution, new_queries)
    return decisions


def race(scores: Mapping[str, Scores], looks: Sequence[Look], *, new_queries: bool = False) -> Race:
    """Drop, look by look, the variants that another one is shown to beat.

    A race finds the best of many and makes no claim: to say how much better the survivors are, judge them on
    ``fresh(scores, race.chosen_with)``, seeds that did not choose them.

    Args:
        scores: The variants' scores, each with its seeds in the order in which they were trained.
        looks: Every look so far.
        new_queries: Whether a variant must be beaten on new queries, or on these.
    """
    alive, lost = list(scores), dict[str, int]()
    chosen_with = dict.fromkeys(scores, 0)
    for place, look in enumerate(looks):
        seen = until({name: scores[name] for name in alive}, look)
        alive.sort(key=lambda name: (-float(seen[name].means().mean()), name))
        beaten = [
            name
            for name, one in differences(seen, alive[0]).items()
            if min(one.seeds, one.baseline_seeds) >= MINIMUM_SEEDS and _beaten(one, new_queries)
        ]
        if beaten:
            lost |= dict.fromkeys(beaten, place)
            alive = [name for name in alive if name not in beaten]
            chosen_with |= {name: len(one.seeds) for name, one in seen.items()}
    return Race(tuple(alive), lost, chosen_with)


def fresh(scores: Mapping[str, Scores], used: Mapping[str, int]) -> dict[str, Scores]:
    """Return the scores of the seeds that come after the used ones, of the variants that have some."""
    rest = {name: one.rows(used.get(name, 0)) for name, one in scores.items()}
    return {name: one for name, one in rest.items() if one.seeds}


def until(scores: Mapping[str, Scores], look: Look) -> dict[str, Scores]:
    """Return the scores that a look saw; a variant without any seed by then is left out."""
    counts = {name: look if isinstance(look, int) else look.get(name, 0) for name in scores}
    return {name: one.rows(0, counts[name]) for name, one in scores.items() if counts[name] > 0}


def _strictness(one: Difference, place: int, most: int | None, *, new_queries: bool) -> float:
    """Return by which factor the critical value on the normal scale is larger than that of a single look.

    With a cap it is kappa t^(-1/4), where t is the share of the information at the cap that there is now (between the
    boundaries of O'Brien and Fleming, Biometrics 35, 1979, and of Pocock, Biometrika 64, 1977).
    """
    if most is None:
        return 1.0 if place == 0 else BY_HAND
    query_part = one.query_part if new_queries else 0.0
    now = float(sum(part.variance / part.seeds for part in one.parts))
    if now + query_part == 0 or one.seeds >= most:
        return KAPPA
    return KAPPA * float(((now + query_part) / (now * one.seeds / most + query_part)) ** 0.25)


def _decision(
    one: Difference,
    place: int,
    count: int,
    families: int,
    strictness: float,
    resolution: float | None,
    new_queries: bool,
) -> Decision:
    if min(one.seeds, one.baseline_seeds) < MINIMUM_SEEDS:
        return Decision(
            "too few seeds", place, one.seeds, one.baseline_seeds, one.mean, None, None, 1.0, None, design=None
        )
    estimate = one.estimate(new_queries=new_queries)
    half = estimate.half_width(critical(estimate.correlation, count, ALPHA / families), strictness)
    adjusted = min(1.0, families * adjust(estimate.p_value(strictness), estimate.correlation, count))
    equivalent = None
    if resolution is not None:
        equivalent = min(1.0, families * count * estimate.equivalence_p(resolution, strictness))
    word = words_of(one.mean, adjusted, equivalent)
    return Decision(
        word="undecided" if word == "no difference shown" else word,
        look=place,
        seeds=one.seeds,
        baseline_seeds=one.baseline_seeds,
        difference=one.mean,
        low=one.mean - half,
        high=one.mean + half,
        adjusted_p=adjusted,
        equivalent_p=equivalent,
        design=Design(one, count * families),
    )


def _beaten(one: Difference, new_queries: bool) -> bool:
    estimate = one.estimate(new_queries=new_queries)
    if estimate.standard_error == 0:
        return False
    return bool(special.stdtr(estimate.df, np.minimum(one.mean, 0.0) / estimate.standard_error) < LOST)
