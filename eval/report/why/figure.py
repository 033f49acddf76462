"""The figure of a diagnostic: a line per row of the leaderboard, a panel per part."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.report.canvas import short
from eval.report.drawing import ACCENT, BETTER, FAINT, INK, NEUTRAL, WORSE
from eval.report.explanations import Explanation
from eval.report.table import Leaderboard, Row

__all__ = ["draw", "panels", "rows_with_values"]

LABEL, PANEL, LINE = 3.3, 1.75, 0.17
"""Inches: the width of the labels and of a panel, and the height of a row."""

SERIES = (BETTER, WORSE, ACCENT, INK, NEUTRAL)
"""Colours of the series of a panel, in their order."""


def panels(explanation: Explanation) -> dict[str, list[str]]:
    """Return the parts by panel: ``documents: top 8`` is the series ``top 8`` of the panel ``documents``."""
    found: dict[str, list[str]] = {}
    for part in explanation.parts:
        found.setdefault(part.partition(": ")[0], []).append(part)
    return found


def rows_with_values(board: Leaderboard, explanation: Explanation) -> list[Row]:
    """Return the rows that have a value, variants by score, references last."""
    return [
        row
        for row in (*board.rows, *board.references)
        if any(row.label in rows for rows in explanation.values.values())
    ]


def draw(board: Leaderboard, explanation: Explanation) -> Figure:
    """Draw each row's mean over seeds, with the standard deviation as a line."""
    rows, columns = rows_with_values(board, explanation), panels(explanation)
    height = 0.75 + LINE * len(rows)
    figure = Figure(figsize=(LABEL + PANEL * len(columns), height))
    series = list(dict.fromkeys(part.partition(": ")[2] for part in explanation.parts))
    every = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    figure.subplots_adjust(
        left=LABEL / (LABEL + PANEL * len(columns)), right=0.99, bottom=0.3 / height, top=1 - 0.4 / height, wspace=0.12
    )
    for axes, (name, parts) in zip(every, columns.items(), strict=True):
        axes.set_title(name, fontsize=8, loc="left")
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=7)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        for part in parts:
            colour = SERIES[series.index(part.partition(": ")[2]) % len(SERIES)]
            _points(axes, rows, explanation, part, colour)
    every[0].set_yticks(range(len(rows)), [short(row.label) for row in rows])
    every[0].set_ylim(len(rows) - 0.4, -0.6)
    for row, text in zip(rows, every[0].get_yticklabels(), strict=True):
        text.set_color(NEUTRAL if row.kind == "reference" else INK)
        text.set_fontweight("bold" if row.kind == "baseline" else "normal")
    if len(series) > 1:
        handles = [
            every[0].plot([], [], "o", color=SERIES[n % len(SERIES)], markersize=4)[0] for n in range(len(series))
        ]
        figure.legend(handles, series, loc="upper left", ncols=1, frameon=False, fontsize=7, borderaxespad=0)
    return figure


def _points(axes: object, rows: Sequence[Row], explanation: Explanation, part: str, colour: str) -> None:
    for place, row in enumerate(rows):
        values = explanation.by_seed(part, row.label)
        if values:
            mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            own = NEUTRAL if row.kind == "reference" else colour
            axes.plot([mean - spread, mean + spread], [place, place], color=own, linewidth=1.2)  # type: ignore[attr-defined]
            axes.plot(mean, place, "o", color=own, markersize=3.5)  # type: ignore[attr-defined]
