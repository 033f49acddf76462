"""The factors of an experiment: the options that its grids of variants vary, and its axes."""

from collections.abc import Mapping
from dataclasses import dataclass

from eval.report.judged import read_before
from eval.report.results import Experiment
from eval.verdicts import Effects, Scores, effects
from experiment.factors import cells, head_key
from projheads.errors import ProjheadsError

__all__ = ["GridEffects", "grid_effects"]


@dataclass(frozen=True)
class GridEffects:
    """What the factors of one grid do.

    Attributes:
        grid: The grid, as the configuration writes it.
        effects: The effects; None if they cannot be estimated.
        refusal: Why not; empty if they can.
    """

    grid: str
    effects: Effects | None
    refusal: str = ""


def grid_effects(experiment: Experiment, scores: Mapping[str, Scores]) -> tuple[GridEffects, ...]:
    """Estimate the effects of every grid of variants; without a grid, those of the head and the axes."""
    axes = {trial.label: trial.axes for trial in experiment.trials}
    heads = {trial.label: _key(trial.record.label) for trial in experiment.trials}
    names = {_key(trial.record.label): trial.record.label for trial in experiment.trials}
    varied = any(axes.values())
    found = []
    for template in experiment.grids or (("variants and axes",) if varied else ()):
        by_head = cells(template) if experiment.grids else {head: {"head": name} for head, name in names.items()}
        # A factor's first level in the grid is the one that the others are compared with.
        levels = {
            label: {**cell, **axes[label]} for head, cell in by_head.items() for label in heads if heads[label] == head
        }
        try:
            if len(levels) < 2:
                raise ProjheadsError("fewer than two of its variants were evaluated")
            before = read_before(experiment, {label: one for label, one in scores.items() if label in levels})
            found.append(GridEffects(template, effects(scores, levels, read_before=before)))
        except ProjheadsError as error:
            found.append(GridEffects(template, None, str(error)))
    return tuple(found)


def _key(label: str) -> str:
    try:
        return head_key(label)
    except ProjheadsError:  # a given model, or a trial of an experiment that compare renamed
        return label
