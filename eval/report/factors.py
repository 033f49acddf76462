"""The factors of an experiment: the options that its grids of variants vary, and its axes."""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import product

from eval.report.results import Experiment
from eval.verdicts import Effect, Effects, Scores, effects
from projheads.errors import ProjheadsError
from projheads.spec import HeadSpec

__all__ = ["GridEffects", "effect_title", "grid_effects", "warnings"]


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
    heads = {trial.label: trial.record.label for trial in experiment.trials}
    varied = any(axes.values())
    found = []
    for template in experiment.grids or (("variants and axes",) if varied else ()):
        cells = _cells(template) if experiment.grids else {head: {"head": head} for head in heads.values()}
        levels = {label: {**cells[head], **axes[label]} for label, head in heads.items() if head in cells}
        try:
            if len(levels) < 2:
                raise ProjheadsError("fewer than two of its variants were evaluated")
            found.append(GridEffects(template, effects(scores, levels)))
        except ProjheadsError as error:
            found.append(GridEffects(template, None, str(error)))
    return tuple(found)


def effect_title(effect: Effect) -> str:
    """Name an effect: ``depth: 3 instead of 2``, or ``depth=3 with residual=true``."""
    if len(effect.factors) == 1:
        return f"{effect.factors[0]}: {_level(effect.levels[0])} instead of {_level(effect.against[0])}"
    return " with ".join(f"{name}={_level(at)}" for name, at in zip(effect.factors, effect.levels, strict=True))


def warnings(found: Effects) -> list[str]:
    """Say where an interaction makes a main effect misleading, and what the grid cannot show."""
    said = []
    for one in found.main:
        for other in one.misleading:
            parts = [f"{100 * value:+.1f} at {other}={_level(at)}" for name, at, value in one.simple if name == other]
            said.append(
                f"{effect_title(one)}: its effect depends on {other} ({', '.join(parts)}), so the average says little."
            )
    if found.assumed_absent:
        pairs = ", ".join(" and ".join(pair) for pair in found.assumed_absent)
        said.append(f"The grid has too few variants to show how these act together, so it is taken for none: {pairs}.")
    return said


def _level(level: Hashable) -> str:
    return level if isinstance(level, str) else str(level).lower() if isinstance(level, bool) else str(level)


def _cells(template: str) -> dict[str, dict[str, Hashable]]:
    """Return the variants of a template such as ``ffn(depth={2,3})``, each with its level of every factor."""
    parts = re.split(r"(\w+)(\s*=\s*)\{((?:[^{}])*)\}", template)
    names = parts[1::4]
    choices = [_split(levels) for levels in parts[3::4]]
    found = {}
    for cell in product(*choices):
        text = parts[0] + "".join(
            f"{name}{equals}{level}{rest}"
            for name, equals, level, rest in zip(names, parts[2::4], cell, parts[4::4], strict=True)
        )
        found[str(HeadSpec.parse(text))] = dict(zip(names, (level.strip("\"'") for level in cell), strict=True))
    return found


def _split(levels: str) -> list[str]:
    """Split at the commas outside brackets."""
    found, depth = [""], 0
    for letter in levels:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [one.strip() for one in found]
