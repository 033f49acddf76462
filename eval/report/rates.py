"""Each head's own learning rate: the curve that chose it, and the verdict beside the one at a shared rate."""

from dataclasses import dataclass

import numpy as np

from eval.report import format as fmt
from eval.report.chosen import chosen_by_all, is_rate, sweeps_of
from eval.report.results import Experiment
from eval.report.table import Costs, Leaderboard, baselines_of
from eval.report.words import word_text
from eval.verdicts import Scope
from experiment.fields import setting_text

__all__ = ["RateCurve", "RateLine", "lost_gains", "rate_curve", "rate_lines", "rate_note"]


MUCH_OF_A_GAIN = 0.25
"""From this share of the best variant's gain on, what the baseline's own learning rate loses is pointed out."""


@dataclass(frozen=True)
class RateCurve:
    """How a variant's held-out score depends on the learning rate.

    Attributes:
        points: Each rate with the mean score over seeds, the best one over the other keys of the grid.
        chosen: The chosen rate and its score; None if no point of the grid worked.
        measure: What was scored.
    """

    points: tuple[tuple[float, float], ...]
    chosen: tuple[float, float] | None
    measure: str


@dataclass(frozen=True)
class RateLine:
    """One variant in the section on learning rates, as text.

    Attributes:
        label: The variant.
        rate: Its own rate, or rates if the seeds chose different ones.
        shared: Its difference from the baseline with all variants at one rate; empty if that was not evaluated.
        own: The same with each variant at its own rate.
        gain: What its own rate changes in the variant itself; empty if it is the shared one, or that was not evaluated.
        tones: The verdicts' words for these queries: at one rate, at its own, and between the two; empty without one.
    """

    label: str
    rate: str
    shared: str
    own: str
    gain: str
    tones: tuple[str, str, str]


def rate_curve(experiment: Experiment, label: str) -> RateCurve | None:
    """Return a variant's curve; None without a sweep of a learning rate."""
    sweep = sweeps_of(experiment.trials).get(label)
    if sweep is None:
        return None
    key = next((name for name in sweep.grid if is_rate(name)), None)
    if key is None:
        return None
    best: dict[float, float] = {}
    for point in sweep.points:
        scores = [score for score in point.seeds.values() if score is not None]
        if scores and len(scores) == len(point.seeds):
            rate = float(point.values[key])
            best[rate] = max(best.get(rate, -np.inf), float(np.mean(scores)))
    values = chosen_by_all(sweep)
    chosen = None if values is None else float(values[key])
    if not best:
        return None
    at = None if chosen is None or chosen not in best else (chosen, best[chosen])
    return RateCurve(tuple(sorted(best.items())), at, sweep.measure)


def rate_lines(board: Leaderboard) -> list[RateLine]:
    """Return a line for each variant of a sweep of learning rates, the best first; none without a sweep."""
    found = []
    for row in board.rows:
        if rate_curve(board.experiment, row.label) is None or row.costs is None:
            continue
        shared = board.at_shared_rate.get(row.label)
        itself = board.own_rates.get(row.label)
        scopes = [
            None if one is None else one.these_queries
            for one in (shared, row.verdict, None if itself is None else itself.change)
        ]
        at_one, at_own, between = (_text(scope, board.resolution) for scope in scopes)
        tones = tuple("" if scope is None else scope.word for scope in scopes)
        found.append(RateLine(row.label, _rates(row.costs), at_one, at_own, between, (tones[0], tones[1], tones[2])))
    return found


def rate_note(board: Leaderboard) -> str:
    """Say for the best variant what its own rate changes; empty unless both were evaluated."""
    baselines = baselines_of(board.experiment)
    for row in board.rows:
        shared = board.at_shared_rate.get(row.label)
        if shared is not None and row.verdict is not None:
            changes = [fmt.change(one.these_queries) for one in (shared, row.verdict)]
            rate = setting_text(board.experiment.shared_rate)
            return (
                f"{row.label} differs from {baselines[row.label]} by {changes[0]} at one learning rate "
                f"({rate}) and by {changes[1]} with each at its own, on these queries."
            )
    return ""


def lost_gains(board: Leaderboard) -> list[str]:
    """Say where a baseline scores higher at the shared learning rate than at its own, while others gain over it."""
    found = []
    for row in board.rows:
        itself, gain = board.own_rates.get(row.label), _best_gain(board, row.label)
        if itself is None or itself.change is None or row.costs is None or gain == 0:
            continue
        if -itself.change.difference >= MUCH_OF_A_GAIN * gain:
            seeds = itself.change.seeds
            found.append(
                f"{row.label} changes by {fmt.change(itself.change.these_queries)} points at its own learning rate "
                f"({_rates(row.costs)}) instead of {setting_text(board.experiment.shared_rate)}, at which it scores "
                f"{fmt.points(itself.mean)}, over {seeds} seed{'' if seeds == 1 else 's'}: what other variants gain "
                "over it may be no more than that. Let queries of more kinds choose (a list in train.validation)."
            )
    return found


def _best_gain(board: Leaderboard, baseline: str) -> float:
    """Return the largest difference from a baseline that is shown in either scope; 0 if there is none."""
    shown = (
        row.verdict.difference
        for row in board.rows
        if row.verdict is not None
        and board.baseline_of(row.label) == baseline
        and "better" in (row.verdict.these_queries.word, row.verdict.new_queries.word)
    )
    return max(shown, default=0.0)


def _rates(costs: Costs) -> str:
    return fmt.rates(costs) if len(costs.learning_rates) < 2 else ", ".join(map(setting_text, costs.learning_rates))


def _text(scope: Scope | None, resolution: float | None) -> str:
    return "" if scope is None else f"{fmt.change(scope)} {word_text(scope.word, resolution)}"
