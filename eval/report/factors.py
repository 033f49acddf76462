"""The factors of an experiment: the options that its grids of variants vary, and its axes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from eval.report.results import Experiment
from eval.verdicts import Effects, Scores, effects
from projheads.errors import ProjheadsError
from projheads.spec import HeadSpec

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
    # Not experiment.config.factors: it needs torch, and a report does without.
    axes = {trial.label: trial.axes for trial in experiment.trials}
    heads = {trial.label: trial.record.label for trial in experiment.trials}
    names = {label: _same(head) if experiment.grids else head for label, head in heads.items()}
    varied = any(axes.values())
    found = []
    for template in experiment.grids or (("variants and axes",) if varied else ()):
        cells = _cells(template) if experiment.grids else {head: {"head": head} for head in heads.values()}
        # A factor's first level in the grid is the one that the others are compared with.
        levels = {
            label: {**cell, **axes[label]} for head, cell in cells.items() for label in heads if names[label] == head
        }
        try:
            if len(levels) < 2:
                raise ProjheadsError("fewer than two of its variants were evaluated")
            found.append(GridEffects(template, effects(scores, levels)))
        except ProjheadsError as error:
            found.append(GridEffects(template, None, str(error)))
    return tuple(found)


def _cells(template: str) -> dict[str, dict[str, str]]:
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
        levels = [str(level).strip("\"'") for level in cell]
        found[_same(text)] = dict(zip(map(str, names), levels, strict=True))
    return found


def _same(text: str) -> str:
    """Return a head's text such that spellings of one head are equal: ``inner=glu`` and ``inner=glu()``, 1 and 1.0."""
    try:
        return _plain(HeadSpec.parse(text))
    except ProjheadsError:
        return text


def _plain(value: object) -> str:
    if isinstance(value, HeadSpec):
        options = [f"{name}={_plain(option)}" for name, option in sorted(value.options.items())]
        return f"{value.name}({', '.join(options)})" if options else value.name
    return repr(float(value)) if isinstance(value, int) and not isinstance(value, bool) else str(value)


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
