"""The curve over an axis: how the difference from the baseline changes with a setting, such as the number of pairs."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from eval.report.canvas import WIDTH, new_figure, short
from eval.report.drawing import ACCENT, BETTER, INK, NEUTRAL, WORSE
from eval.report.table import Leaderboard, Row
from experiment.disk.records import axis_text

__all__ = ["axis_curves"]

LINE_COLOURS = (ACCENT, "#d97b29", BETTER, WORSE, INK)
"""Colours of the first lines; further ones are grey."""

LOG_FROM = 8
"""Values that span at least this factor are drawn on a logarithmic scale."""


def axis_curves(board: Leaderboard) -> Figure | None:
    """Draw each variant's difference from the baseline over the numeric axis that has the most values."""
    key = _longest_axis(board)
    if key is None:
        return None
    records = {trial.label: trial.record for trial in board.experiment.trials}
    lines: dict[str, list[tuple[float, Row]]] = {}
    for row in board.rows:
        if row.verdict is None or row.label not in records or key not in records[row.label].axes:
            continue
        others = {name: value for name, value in records[row.label].axes.items() if name != key}
        lines.setdefault(_name(records[row.label].label, others), []).append((records[row.label].axes[key], row))
    values = sorted({value for line in lines.values() for value, _ in line})
    if len(values) < 2:
        return None
    figure, axes = new_figure(WIDTH, 3.2)
    axes.axhline(0, color=NEUTRAL, linewidth=1)
    for place, (name, line) in enumerate(sorted(lines.items())):
        _draw_line(axes, name, line, LINE_COLOURS[place] if place < len(LINE_COLOURS) else NEUTRAL, place, len(lines))
    if values[0] > 0 and values[-1] / values[0] >= LOG_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(values)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(key.rpartition(".")[2])
    axes.set_ylabel(f"difference, points of {board.measure}")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0, fontsize=7)
    return figure


def _draw_line(axes: Any, name: str, line: list[tuple[float, Row]], colour: str, place: int, count: int) -> None:
    """Draw a variant's differences, joined, each with its interval for these queries."""
    points = sorted((value, row.verdict.these_queries) for value, row in line if row.verdict is not None)
    shift = 1 + 0.012 * (place - (count - 1) / 2)  # so that intervals at one value do not hide each other
    xs = [value * shift for value, _ in points]
    axes.plot(xs, [100 * scope.difference for _, scope in points], "o-", color=colour, markersize=4, label=short(name))
    for x, (_, scope) in zip(xs, points, strict=True):
        if scope.low is not None and scope.high is not None:
            axes.plot([x, x], [100 * scope.low, 100 * scope.high], color=colour, linewidth=1.2)


def _longest_axis(board: Leaderboard) -> str | None:
    """Return the axis with the most numeric values; None without one."""
    found: dict[str, set[float]] = {}
    for trial in board.experiment.trials:
        for key, value in trial.record.axes.items():
            found.setdefault(key, set()).add(value)
    numeric = {
        key: values
        for key, values in found.items()
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
    }
    return max(numeric, key=lambda key: len(numeric[key]), default=None)


def _name(variant: str, others: Mapping[str, Any]) -> str:
    """Name a line: the variant, and its values on the other axes."""
    values = ", ".join(f"{key.rpartition('.')[2]}={axis_text(value)}" for key, value in others.items())
    return f"{variant} @ {values}" if values else variant
