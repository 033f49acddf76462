"""Empty figures to draw in: axes in the style of the report, and one line per row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from eval.report.drawing import FAINT
from eval.report.format import difference, visible
from eval.verdicts import Scope

__all__ = ["LETTERS", "WIDTH", "both_scopes", "cells_figure", "new_figure", "rows_figure", "short"]

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


LETTERS = 84
"""Longer labels of wide figures are shortened."""


def cells_figure(
    rows: Sequence[str], columns: Sequence[str], values: np.ndarray, bold: Sequence[Sequence[bool]], power: float = 1.0
) -> Figure:
    """Make a table of differences, each on a colour of its size and sign.

    Args:
        rows: Their labels.
        columns: Their labels.
        values: (rows, columns), from -1 to 1; NaN for an empty cell.
        bold: Which of them are in bold.
        power: The colour is proportional to this power of the size: less than 1 shows small ones beside large ones.
    """
    limit = max(float(np.nanmax(np.abs(values))), 1e-11)
    labels = [short(label, LETTERS) for label in rows]
    figure, axes = new_figure(2.4 + 0.55 * len(columns), 0.9 + 0.26 * len(rows))
    axes.grid(visible=False)
    colours = LinearSegmentedColormap.from_list("differences", ["#d98a3a", "#ffffff", "#5b93d6"])
    for (place, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        cell = colours(0.5 + np.sign(value) * (abs(value) / limit) ** power / 2)
        axes.add_patch(Rectangle((column - 0.48, place - 0.46), 0.96, 0.92, facecolor=cell, linewidth=0))
        # Dark ink on every cell, also on a dark page: cells have a light background.
        ink = {"color": "#16191d", "fontsize": 6.5, "fontweight": "bold" if bold[place][column] else "normal"}
        axes.text(column, place, difference(value), ha="center", va="center", **ink)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), labels)
    axes.set_xticks(
        range(len(columns)),
        [visible(name) for name in columns],
        rotation=40,
        ha="left",
        va="baseline",
        rotation_mode="anchor",
    )
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def both_scopes(axes: Any, place: float, here: Scope, new: Scope, colours: tuple[str, str]) -> None:
    """Draw a difference with its intervals: thick for these queries, thin for new ones."""
    for scope, colour, width in ((new, colours[1], 1.2), (here, colours[0], 3.2)):
        if scope.low is not None and scope.high is not None:
            axes.plot([100 * scope.low, 100 * scope.high], [place, place], color=colour, linewidth=width)
    axes.plot(100 * here.difference, place, "o", color=colours[0], markersize=6)


def short(label: str, letters: int = 44) -> str:
    """Shorten a label in the middle if it would take too much room: its end says at which point of the axes it is."""
    half = letters // 2
    return visible(label if len(label) <= letters else f"{label[:half]}\N{HORIZONTAL ELLIPSIS}{label[-half:]}")
