"""Empty figures to draw in: axes in the style of the report, and one line per row."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from eval.report.drawing import FAINT
from eval.report.format import visible
from eval.verdicts import Scope

__all__ = ["WIDTH", "both_scopes", "new_figure", "rows_figure", "short"]

WIDTH = 5.0
"""Inches. Pages scale figures to their own width, so this sets the size of the text relative to the drawing."""


def new_figure(width: float, height: float) -> tuple[Figure, Any]:
    """Make a figure with one pair of axes."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def rows_figure(labels: Sequence[str]) -> tuple[Figure, Any]:
    """Make a figure with one line per label, below the label, so that it fits a phone."""
    figure, axes = new_figure(WIDTH, 0.7 + 0.4 * len(labels))
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    for place, label in enumerate(labels):
        axes.text(0, place - 0.26, visible(label), transform=axes.get_yaxis_transform(), fontsize=7, clip_on=False)
    return figure, axes


def both_scopes(axes: Any, place: float, here: Scope, new: Scope, colours: tuple[str, str]) -> None:
    """Draw a difference with its intervals: thick for these queries, thin for new ones."""
    for scope, colour, width in ((new, colours[1], 1.2), (here, colours[0], 3.2)):
        if scope.low is not None and scope.high is not None:
            axes.plot([100 * scope.low, 100 * scope.high], [place, place], color=colour, linewidth=width)
    axes.plot(100 * here.difference, place, "o", color=colours[0], markersize=6)


def short(label: str) -> str:
    """Shorten a label that would take too much room; the table has it in full."""
    return visible(label if len(label) <= 44 else f"{label[:43]}\N{HORIZONTAL ELLIPSIS}")
