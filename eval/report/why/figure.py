"""The figures of the page: a line per row of the leaderboard, side by side in a panel per part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.report.canvas import LETTERS, short
from eval.report.drawing import ACCENT, BETTER, FAINT, INK, NEUTRAL, WORSE
from eval.report.explanations import Explanation
from eval.report.table import Leaderboard, Row
from eval.report.why.bands import Split

__all__ = ["Panel", "band_panels", "draw", "panels", "rows_with"]

LETTER, PANEL, LINE = 0.062, 1.75, 0.17
"""Inches: the width of a letter of the labels and of a panel, and the height of a row."""

SERIES = (BETTER, WORSE, ACCENT, INK, NEUTRAL, "#2a8a6f", "#a0519e")
"""Colours of the series of a panel, in their order."""


@dataclass(frozen=True)
class Panel:
    """A panel: for each series, a value and the ends of its line by row."""

    title: str
    series: Mapping[str, Mapping[str, tuple[float, float, float]]]
    zero: bool = False


def panels(board: Leaderboard, explanation: Explanation) -> list[Panel]:
    """Return means and spreads by panel: ``documents: top 8`` is the series ``top 8`` of the panel ``documents``."""
    found: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {}
    for part in explanation.parts:
        title, _, series = part.partition(": ")
        for row in (*board.rows, *board.references):
            values = explanation.by_seed(part, row.label)
            if values:
                mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                at = found.setdefault(title, {}).setdefault(series, {})
                at[row.label] = (mean, mean - spread, mean + spread)
    return [Panel(title, series) for title, series in found.items()]


def band_panels(split: Split) -> list[Panel]:
    """Return the differences in points, a panel per band."""
    return [
        Panel(
            band.name,
            {
                "": {
                    label: (100 * value, 100 * low, 100 * high)
                    for label, (value, low, high) in band.differences.items()
                }
            },
            zero=True,
        )
        for band in split.bands
    ]


def rows_with(board: Leaderboard, shown: Sequence[Panel]) -> list[Row]:
    """Return the rows that have a value, variants by score, references last."""
    named = {label for panel in shown for values in panel.series.values() for label in values}
    return [row for row in (*board.rows, *board.references) if row.label in named]


def draw(rows: Sequence[Row], shown: Sequence[Panel]) -> Figure:
    """Draw each row's values as dots on lines."""
    series = list(dict.fromkeys(name for panel in shown for name in panel.series))
    legend = len(series) > 1
    labels = [short(row.label, LETTERS) for row in rows]
    beside = max(1.6, LETTER * max(map(len, labels)))
    width, head = beside + PANEL * len(shown), 0.3 + (0.2 if legend else 0.0)
    height = head + 0.35 + LINE * len(rows)
    figure = Figure(figsize=(width, height))
    every = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    figure.subplots_adjust(
        left=beside / width, right=0.99, bottom=0.3 / height, top=1 - (head + 0.05) / height, wspace=0.12
    )
    for axes, panel in zip(every, shown, strict=True):
        axes.set_title(panel.title, fontsize=8, loc="left")
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=7)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        if panel.zero:
            axes.axvline(0, color=NEUTRAL, linewidth=1)
        for name, values in panel.series.items():
            _points(axes, rows, values, SERIES[series.index(name) % len(SERIES)])
    every[0].set_yticks(range(len(rows)), labels)
    every[0].set_ylim(len(rows) - 0.4, -0.6)
    for row, text in zip(rows, every[0].get_yticklabels(), strict=True):
        text.set_color(NEUTRAL if row.kind == "reference" else INK)
        text.set_fontweight("bold" if row.kind == "baseline" else "normal")
    if legend:
        colours = [SERIES[number % len(SERIES)] for number in range(len(series))]
        handles = [every[0].plot([], [], "o", color=colour, markersize=4)[0] for colour in colours]
        figure.legend(
            handles, series, loc="upper left", bbox_to_anchor=(beside / width, 1.0), ncols=len(series), frameon=False,
            fontsize=7, borderaxespad=0, handletextpad=0.2, columnspacing=1.2,
        )  # fmt: skip
    return figure


def _points(axes: Any, rows: Sequence[Row], values: Mapping[str, tuple[float, float, float]], colour: str) -> None:
    for place, row in enumerate(rows):
        if row.label in values:
            value, low, high = values[row.label]
            own = NEUTRAL if row.kind == "reference" else colour
            axes.plot([low, high], [place, place], color=own, linewidth=1.2)
            axes.plot(value, place, "o", color=own, markersize=3.5)
