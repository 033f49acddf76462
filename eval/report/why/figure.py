"""The figures of the page: a line per row of the leaderboard, side by side in a panel per part.

Of many rows, a figure shows those that matter, and one line for the range of the others; its CSV has all.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.report.canvas import LETTERS, short
from eval.report.drawing import ACCENT, BETTER, FAINT, INK, NEUTRAL, WORSE
from eval.report.explanations import Explanation
from eval.report.table import Leaderboard, Row
from eval.report.why.bands import Split

__all__ = ["Panel", "band_panels", "draw", "panels", "rows_with", "shown_rows"]

MOST_ROWS = 24
"""Rows that a figure shows; of more, it shows the references and baselines, and those that stand out."""

BEST = 3
"""Rows with the best scores that every figure shows."""

LETTER, PANEL, LINE = 0.062, 1.75, 0.17
"""Inches: the width of a letter of the labels and of a panel, and the height of a row."""

SERIES = (BETTER, WORSE, ACCENT, INK, NEUTRAL, "#2a8a6f", "#a0519e")
"""Colours of the series of a panel, in their order."""


Point: TypeAlias = tuple[float, float, float]
"""A value and the ends of its line."""


@dataclass(frozen=True)
class Panel:
    """A panel: for each series, a value and the ends of its line by row."""

    title: str
    series: Mapping[str, Mapping[str, Point]]
    zero: bool = False


def panels(board: Leaderboard, explanation: Explanation) -> list[Panel]:
    """Return means and spreads by panel: ``documents: top 8`` is the series ``top 8`` of the panel ``documents``."""
    found: dict[str, dict[str, dict[str, Point]]] = {}
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
            f"{band.name} ({band.queries})",
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


def shown_rows(rows: Sequence[Row], shown: Sequence[Panel]) -> list[Row]:
    """Choose the rows of a figure, in their order.

    If there are too many, these are the baselines and references, the best, and, in turn, those with the lowest and
    highest value of each series and those that are distinguishable from the baseline, the largest difference first.
    """
    if len(rows) <= MOST_ROWS:
        return list(rows)
    kept = [row.label for row in rows if row.kind != "variant"] + [row.label for row in rows[:BEST]]
    differing = [row for row in rows if row.verdict is not None and row.verdict.word in ("better", "worse")]
    differing.sort(key=lambda row: -abs(row.verdict.difference) if row.verdict else 0.0)
    queues = [[row.label for row in differing]]
    for values in (values for panel in shown for values in panel.series.values()):
        ordered = sorted(values, key=lambda label: values[label][0])
        queues += [ordered, ordered[::-1]]
    kept += [label for turn in zip_longest(*queues) for label in turn if label is not None]
    chosen = list(dict.fromkeys(kept))[: MOST_ROWS - 1]
    return [row for row in rows if row.label in chosen]


def draw(rows: Sequence[Row], shown: Sequence[Panel]) -> Figure:
    """Draw each row's values as dots on lines, and the range of the rows that are not shown, with its median."""
    chosen = shown_rows(rows, shown)
    shown_labels, references = {row.label for row in chosen}, {row.label for row in chosen if row.kind == "reference"}
    others = [row.label for row in rows if row.label not in shown_labels]
    last = f"{len(others)} others: range and median"
    names = [*(row.label for row in chosen), *([last] if others else [])]
    series = list(dict.fromkeys(name for panel in shown for name in panel.series))
    legend = len(series) > 1
    labels = [short(name, LETTERS) for name in names]
    beside = max(1.6, LETTER * max(map(len, labels)))
    width, head = beside + PANEL * len(shown), 0.3 + (0.2 if legend else 0.0)
    height = head + 0.35 + LINE * len(names)
    figure = Figure(figsize=(width, height))
    every = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    figure.subplots_adjust(
        left=beside / width, right=0.99, bottom=0.3 / height, top=1 - (head + 0.05) / height, wspace=0.12
    )
    for axes, panel in zip(every, shown, strict=True):
        axes.set_title(panel.title, fontsize=8, loc="left")
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=7)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        if panel.zero:
            axes.axvline(0, color=NEUTRAL, linewidth=1)
        guides = dict.fromkeys(names, (0.0, 0.0, 1.0))
        _lines(axes, names, guides, color=FAINT, linewidth=0.6, zorder=0.5, transform=axes.get_yaxis_transform())
        for name, values in panel.series.items():
            drawn = values if not others else {**values, last: _range([values[x] for x in others if x in values])}
            colour = SERIES[series.index(name) % len(SERIES)]
            _points(axes, names, drawn, colour, {*references, last})
    every[0].set_yticks(range(len(names)), labels)
    every[0].set_ylim(len(names) - 0.4, -0.6)
    kinds = {row.label: row.kind for row in chosen}
    for name, text in zip(names, every[0].get_yticklabels(), strict=True):
        text.set_color(INK if kinds.get(name, "reference") != "reference" else NEUTRAL)
        text.set_fontweight("bold" if kinds.get(name) == "baseline" else "normal")
    if legend:
        colours = [SERIES[number % len(SERIES)] for number in range(len(series))]
        handles = [every[0].plot([], [], "o", color=colour, markersize=4)[0] for colour in colours]
        figure.legend(
            handles, series, loc="upper left", bbox_to_anchor=(beside / width, 1.0), ncols=len(series), frameon=False,
            fontsize=7, borderaxespad=0, handletextpad=0.2, columnspacing=1.2,
        )  # fmt: skip
    return figure


def _range(values: Sequence[Point]) -> Point:
    """Return the median, and the least and the greatest of some values."""
    middles = [value for value, _, _ in values] or [np.nan]
    return float(np.median(middles)), min(middles), max(middles)


def _points(axes: Any, names: Sequence[str], values: Mapping[str, Point], colour: str, grey: Collection[str]) -> None:
    for own, some in (
        (colour, {name: value for name, value in values.items() if name not in grey}),
        (NEUTRAL, {name: value for name, value in values.items() if name in grey}),
    ):
        _lines(axes, names, some, color=own, linewidth=1.2)
        dots = [(some[name][0], place) for place, name in enumerate(names) if name in some]
        if dots:
            axes.plot(*zip(*dots, strict=True), "o", color=own, markersize=3.5)


def _lines(axes: Any, names: Sequence[str], values: Mapping[str, Point], **style: Any) -> None:
    """Draw a line for each name that has a value: all in one path, which keeps the page small."""
    ends = [(values[name][1:], place) for place, name in enumerate(names) if name in values]
    if ends:
        axes.plot(
            [x for (low, high), _ in ends for x in (low, high, np.nan)],
            [y for _, place in ends for y in (place, place, np.nan)],
            **style,
        )
