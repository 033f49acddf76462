"""How far a small suite agrees with a large one about the same variants.

The variants are ranked by their mean on each suite. The interval of the rank correlation is a percentile bootstrap
(Efron, 1979) over what another experiment would draw again: the queries of each data set, and the seeds, which both
suites share. Noise lowers a rank correlation, so the interval lies below the correlation of the true means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from eval.report.reading import load_experiment
from eval.report.table import Leaderboard, build_leaderboard
from eval.verdicts.scores import FloatArray, Scores
from experiment.collections.suites import suite_group, suite_sources
from projheads.errors import ProjheadsError, unknown_name

__all__ = ["Agreement", "agreement", "agreement_value", "describe_agreement"]

RESAMPLES = 2000
FEWEST = 3
"""A rank correlation of fewer variants says nothing."""


@dataclass(frozen=True)
class Agreement:
    """How far two sets of data sets agree.

    Attributes:
        small: The data sets of the small suite.
        large: Those of the large one.
        means: By variant, its mean on the small and on the large suite, from 0 to 1.
        tau: Kendall's tau-b of the means.
        low: Lower end of its 95% interval.
        high: Upper end.
        pairs: Number of pairs of variants.
        same: How many of them both suites order alike.
        best_in_common: Whether both have the same best variant.
    """

    small: tuple[str, ...]
    large: tuple[str, ...]
    means: dict[str, tuple[float, float]]
    tau: float
    low: float
    high: float
    pairs: int
    same: int
    best_in_common: bool


def agreement_value(folder: Path, small: Sequence[str], large: Sequence[str]) -> Agreement:
    """Compare two suites on the variants of an experiment.

    Raises:
        ProjheadsError: If a data set is unknown or in both, or there are too few variants.
    """
    board = build_leaderboard(load_experiment(folder))
    return agreement(board, _expanded(board, small), _expanded(board, large))


def agreement(board: Leaderboard, small: Sequence[str], large: Sequence[str]) -> Agreement:
    """Compute the agreement of two lists of a leaderboard's data sets, neither empty; see ``agreement_value``."""
    names = list(board.queries)
    for name in (*small, *large):
        if name not in names:
            raise unknown_name("dataset", name, names)
    if both := set(small) & set(large):
        raise ProjheadsError(f"agree: {min(both)} is in both lists; list distinct datasets")
    labels = sorted(board.scores)
    if len(labels) < FEWEST:
        raise ProjheadsError(f"agree: {len(labels)} variants have scores; ranking them needs at least {FEWEST}")
    sides = [[names.index(name) for name in side] for side in (small, large)]
    means = np.array([[_mean(board.scores[label], side) for label in labels] for side in sides])
    generator = np.random.default_rng(0)
    drawn = [_tau(_resample([board.scores[label] for label in labels], sides, generator)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    upper = np.triu_indices(len(labels), 1)
    signs = [np.sign(one[:, None] - one[None, :])[upper] for one in means]
    return Agreement(
        small=tuple(small),
        large=tuple(large),
        means={label: (float(means[0, place]), float(means[1, place])) for place, label in enumerate(labels)},
        tau=_tau(means),
        low=float(low),
        high=float(high),
        pairs=len(upper[0]),
        same=int((signs[0] == signs[1]).sum()),
        best_in_common=bool(means[0].argmax() == means[1].argmax()),
    )


def describe_agreement(found: Agreement) -> list[str]:
    """Write the agreement as lines."""
    width = max(map(len, found.means))
    lines = [f"{'variant':{width}}  {'small':>6}  {'large':>6}"]
    for label, (small, large) in sorted(found.means.items(), key=lambda item: -item[1][1]):
        lines.append(f"{label:{width}}  {100 * small:6.2f}  {100 * large:6.2f}")
    best = "the same best variant" if found.best_in_common else "different best variants"
    return [
        *lines,
        "",
        f"Kendall's tau {found.tau:.2f}, 95% interval [{found.low:.2f}, {found.high:.2f}] over queries and seeds: "
        f"{', '.join(found.small)} and {', '.join(found.large)} order {found.same} of {found.pairs} pairs of variants "
        f"alike and have {best}.",
    ]


def _expanded(board: Leaderboard, names: Sequence[str]) -> list[str]:
    """Replace ``suite:<name>`` by its data sets that the leaderboard has."""
    found: list[str] = []
    for name in names:
        if not name.startswith("suite:"):
            found.append(name)
            continue
        sources = suite_sources(name.removeprefix("suite:"))
        groups = {suite_group(source) for source in sources}
        there = [one for one, facts in board.datasets.items() if facts.source in sources or one in groups]
        if not there:
            raise ProjheadsError(
                f"agree: the experiment has no dataset of {name}; evaluate it on {{suite: {name[6:]}}}"
            )
        found += there
    return found


def _mean(scores: Scores, side: Sequence[int]) -> float:
    return float(np.mean([scores.tables[place].mean() for place in side]))


def _resample(scores: Sequence[Scores], sides: Sequence[Sequence[int]], generator: np.random.Generator) -> FloatArray:
    """Draw queries and seeds again, and return the means (2, variants); all variants share the drawn queries."""
    places = [place for side in sides for place in side]
    shares = {}
    for place in places:
        count = scores[0].tables[place].shape[1]
        shares[place] = np.bincount(generator.integers(0, count, count), minlength=count) / count
    seeds = sorted({seed for one in scores for seed in one.seeds})
    weights = dict(
        zip(seeds, np.bincount(generator.integers(0, len(seeds), len(seeds)), minlength=len(seeds)), strict=True)
    )
    drawn = np.empty((len(sides), len(scores)))
    for column, one in enumerate(scores):
        share = np.array([weights[seed] for seed in one.seeds], float)
        share = np.ones_like(share) if not share.sum() else share
        for row, side in enumerate(sides):
            means = [one.tables[place] @ shares[place] for place in side]
            drawn[row, column] = np.average(np.mean(means, axis=0), weights=share)
    return drawn


def _tau(means: FloatArray) -> float:
    """Return Kendall's tau-b; 0 if all means of a suite are equal."""
    found = float(kendalltau(means[0], means[1]).statistic)
    return 0.0 if np.isnan(found) else found
