"""Does any diagnostic predict the score? Rank correlations over all trials, with intervals over heads.

The intervals come from draws of heads with replacement, because trials of one head are alike, also at different points
of the axes; ranks stay those of all trials.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from eval.report.explanations import Explanation
from eval.report.table import Leaderboard, baselines_of

__all__ = ["Prediction", "predictions"]

DRAWS = 1000
"""Draws of heads, with replacement, from which the intervals are taken."""

LEAST_TRIALS = 6
"""Trials without which a rank correlation says nothing."""

LEAST_HEADS = 5
"""Heads without which draws of heads give no interval."""

TINY = 1e-12


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its 95% interval, which is None with too few heads."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Prediction:
    """What one part of a diagnostic says about the score.

    Attributes:
        name: The diagnostic.
        title: Its title.
        part: The part.
        trials: Number of trials, on any dataset.
        heads: Number of heads.
        score: Spearman's correlation with the score, mean over datasets.
        difference: The same with the difference from the baseline of the same seed, or of its mean.
    """

    name: str
    title: str
    part: str
    trials: int
    heads: int
    score: Correlation
    difference: Correlation | None


def predictions(board: Leaderboard, others: Sequence[Explanation] = ()) -> list[Prediction]:
    """Return them for every part of all diagnostics and ``others``, the strongest correlation with the score first."""
    scores = _scores(board)
    differences = _differences(board, scores)
    heads = {
        trial.label: json.dumps(trial.record.head, sort_keys=True) if trial.record.head else trial.label
        for trial in board.experiment.trials
    }
    found = []
    for one in (*board.explanations.values(), *others):
        for part in one.parts:
            table = _table(one, part, scores)
            if len(table) < LEAST_TRIALS or len({heads[label] for label, *_ in table}) < 2:
                continue
            score = _correlation(
                [(heads[label], dataset, x, scores[label, seed, dataset]) for label, seed, dataset, x in table]
            )
            rest = [
                (heads[label], dataset, x, differences[label, seed, dataset])
                for label, seed, dataset, x in table
                if (label, seed, dataset) in differences
            ]
            if score is not None:
                found.append(
                    Prediction(
                        one.name, one.meaning.title, part, len(table), len({heads[row[0]] for row in table}), score,
                        _correlation(rest),
                    )
                )  # fmt: skip
    return sorted(found, key=lambda one: -abs(one.score.value))


def _scores(board: Leaderboard) -> dict[tuple[str, int, str], float]:
    """Return the score of every trial on each dataset."""
    return {
        (row.label, seed, dataset): value
        for row in board.rows
        for dataset, values in row.scores.get(board.measure, {}).items()
        for seed, value in zip(row.seeds, values, strict=True)
    }


def _differences(board: Leaderboard, scores: Mapping[tuple[str, int, str], float]) -> dict[tuple[str, int, str], float]:
    """Return the difference of every trial from the baseline's trial of its seed, or from the baseline's mean."""
    baselines, found = baselines_of(board.experiment), {}
    everyone: dict[tuple[str, str], list[float]] = {}
    for (label, _, dataset), value in scores.items():
        everyone.setdefault((label, dataset), []).append(value)
    means = {row: float(np.mean(values)) for row, values in everyone.items()}
    for (label, seed, dataset), value in scores.items():
        base = baselines.get(label, label)
        if base != label and (base, dataset) in means:
            found[label, seed, dataset] = value - scores.get((base, seed, dataset), means[base, dataset])
    return found


def _table(
    explanation: Explanation, part: str, scores: Mapping[tuple[str, int, str], float]
) -> list[tuple[str, int, str, float]]:
    """Return the variant, seed, dataset and value of every trial that has a value and a score."""
    return [
        (label, seed, dataset, value)
        for label, values in explanation.values[part].items()
        for (seed, dataset), value in values.items()
        if (label, seed, dataset) in scores
    ]


def _correlation(rows: Sequence[tuple[str, str, float, float]]) -> Correlation | None:
    """Correlate within each dataset and average; the interval draws complete heads."""
    if len(rows) < LEAST_TRIALS:
        return None
    labels = list(dict.fromkeys(row[0] for row in rows))
    drawn = np.random.default_rng(0).multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=DRAWS)
    values, draws = [], []
    for name in dict.fromkeys(row[1] for row in rows):
        inside = [row for row in rows if row[1] == name]
        own = np.array([labels.index(row[0]) for row in inside])
        ranks = [rankdata([row[place] for row in inside]) for place in (2, 3)]
        value = _weighted(np.ones((1, len(inside))), *ranks)[0]
        if np.isfinite(value):
            values.append(value)
            draws.append(_weighted(drawn[:, own], *ranks))
    if not values:
        return None
    mean = float(np.mean(values))
    if len(labels) < LEAST_HEADS:
        return Correlation(mean, None, None)
    means = np.mean(draws, axis=0)
    low, high = np.quantile(means[np.isfinite(means)], [0.025, 0.975])
    return Correlation(mean, float(low), float(high))


def _weighted(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the correlation of x and y (n,) under each row of weights (m, n); NaN if one of them does not vary."""
    total = weights.sum(axis=1)
    # Centred first, so that the moments do not cancel.
    x, y = x - x.mean(), y - y.mean()
    a, b = weights @ x / total, weights @ y / total
    variances = (weights @ x**2 / total - a**2) * (weights @ y**2 / total - b**2)
    covariance = weights @ (x * y) / total - a * b
    return np.asarray(np.where(variances > TINY, covariance / np.sqrt(np.maximum(variances, TINY)), np.nan))
