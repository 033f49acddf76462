"""The figures, one function each. They show numbers that are also in the table or in result files."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from eval.report import format as fmt
from eval.report.advice import inference_cost
from eval.report.axis_figure import axis_curves
from eval.report.canvas import WIDTH, both_scopes, cells_figure, new_figure, rows_figure, short
from eval.report.drawing import ACCENT, BETTER, INK, NEUTRAL, WORSE
from eval.report.effect_text import effect_title
from eval.report.format import visible
from eval.report.rates import rate_curve
from eval.report.storage import StoredForm
from eval.report.table import Leaderboard, Row
from eval.report.words import Tone, left_race, scope_tone
from eval.verdicts import Scope, Verdict
from experiment.disk.records import TrainLine
from experiment.fields import setting_text

__all__ = ["FIGURES", "Drawing"]

COLOURS: dict[Tone, str] = {"better": BETTER, "worse": WORSE, "equal": ACCENT}
SAME_SIZE = 1.05
"""Forms of storage whose sizes differ by less than this factor share a label."""

CURVE_POINTS = 120
"""Most points of a training curve; more would not be visible."""


@dataclass(frozen=True)
class Drawing:
    """A kind of figure.

    Attributes:
        title: Its heading.
        caption: How to read it, in one or two sentences.
        draw: Draws it; returns None if there is nothing to show.
        wide: Whether it takes the width of the page, not half of it.
        section: The section of the page that it belongs to; empty for the figures below the table.
    """

    title: str
    caption: str
    draw: Callable[[Leaderboard], Figure | None]
    wide: bool = False
    section: str = ""


def forest(board: Leaderboard) -> Figure | None:
    """Draw each variant's difference from the baseline with its intervals for these and for new queries.

    If there is a baseline at each setting, each is at 0, and the references are left out: most belong to no setting.
    """
    rows, base = shown_rows(board), board.baseline_row.mean(board.measure)
    if sum(row.kind == "baseline" for row in rows) > 1:
        rows = [row for row in rows if row.kind != "reference"]
    if base is None or not any(row.verdict for row in rows):
        return None
    figure, axes = rows_figure([row.label for row in rows])
    axes.axvline(0, color=NEUTRAL, linewidth=1)
    reach = 150 * max(abs(end) for row in rows if row.verdict for end in _ends_to_show(board, row, row.verdict))
    for place, row in enumerate(rows):
        if row.verdict is None:
            value = 0.0 if row.kind == "baseline" else 100 * ((row.mean(board.measure) or 0.0) - base)
            if abs(value) > reach:  # an arrow at the edge: the scale is for the variants
                edge, arrow = (reach, ">") if value > 0 else (-reach, "<")
                axes.plot(edge, place, arrow, color=NEUTRAL, markersize=6)
                side = {"ha": "right" if value > 0 else "left", "va": "center", "fontsize": 7}
                axes.text(edge * 0.96, place, fmt.difference(value / 100), color=NEUTRAL, **side)
            else:
                axes.plot(value, place, "D", color=NEUTRAL, markersize=5, markerfacecolor="white")
            continue
        here, new = row.verdict.these_queries, row.verdict.new_queries
        colours = tuple(COLOURS.get(scope_tone(scope), NEUTRAL) for scope in (here, new))
        both_scopes(axes, place, here, new, (colours[0], colours[1]))
    if board.race is not None:
        axes.set_xlim(-reach, reach)
    axes.set_xlabel(f"difference from {short(board.against)}, points of {board.measure}")
    return figure


def _ends_to_show(board: Leaderboard, row: Row, verdict: Verdict) -> tuple[float, ...]:
    """Return what the scale has room for: the interval, or only the difference of a head that left a race early."""
    return (verdict.difference,) if left_race(board, row) else scope_ends(verdict.new_queries)


def scope_ends(scope: Scope) -> tuple[float, ...]:
    """Return the difference, and the ends of its interval if it has one."""
    return tuple(value for value in (scope.difference, scope.low, scope.high) if value is not None)


def shown_rows(board: Leaderboard) -> list[Row]:
    """Return the rows of the figures with one line per row, the same in each: variants and references by score."""
    rows = [row for row in (*board.rows, *board.references) if row.seeds]
    return sorted(rows, key=lambda row: -(row.mean(board.measure) or 0.0))


def seeds(board: Leaderboard) -> Figure | None:
    """Draw every trial as a point, and the mean of each row as a bar."""
    rows = shown_rows(board)
    if not rows:
        return None
    figure, axes = rows_figure([row.label for row in rows])
    for place, row in enumerate(rows):
        values, colour = 100 * np.array(row.by_seed(board.measure)), NEUTRAL if row.kind == "reference" else BETTER
        axes.plot(values, np.full(len(values), place), "o", color=colour, alpha=0.55, markersize=5, markeredgewidth=0)
        axes.plot([values.mean()] * 2, [place - 0.18, place + 0.22], color=INK, linewidth=1.6)
    axes.set_xlabel(f"{board.measure}, points (dots: trials; bars: means)")
    return figure


def heat_map(board: Leaderboard) -> Figure | None:
    """Draw the difference from the baseline of each variant on each dataset."""
    rows = [row for row in board.rows if row.dataset_verdicts]
    if not rows or len(board.datasets) < 2:
        return None
    names = list(board.datasets)
    values = np.array([[row.dataset_verdicts[name].difference for name in names] for row in rows])
    shown = [[scope_tone(row.dataset_verdicts[name].new_queries) in COLOURS for name in names] for row in rows]
    return cells_figure([row.label for row in rows], names, values, shown)


def cost(board: Leaderboard) -> Figure | None:
    """Draw what each head costs once training is over, and as trained if it folds, in the order of the scores."""
    rows = [row for row in shown_rows(board) if row.costs is not None]
    if len(rows) < 2:
        return None
    figure, axes = rows_figure([f"{row.label}   {fmt.points(row.mean(board.measure) or 0.0)}" for row in rows])
    for place, row in enumerate(rows):
        cost = inference_cost(row)
        if row.costs is None or not cost:
            continue
        if cost < row.costs.multiply_adds:
            axes.plot([cost, row.costs.multiply_adds], [place] * 2, color=NEUTRAL, linewidth=1, linestyle=":")
            axes.plot(row.costs.multiply_adds, place, "o", color=NEUTRAL, markerfacecolor="white", markersize=5)
        axes.plot(cost, place, "o", color=INK, markersize=6)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: fmt.short_count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08)
    axes.set_xlabel("multiply-adds of the head per token")
    return figure


def curves(board: Leaderboard) -> Figure | None:
    """Draw the training loss of each variant and, for the baseline and the best, the loss on held-out pairs."""
    training = mean_lines(board, lambda line: line.loss)
    if not training:
        return None
    held_out = mean_lines(board, lambda line: line.validation_loss)
    best = next((row.label for row in board.rows if row.kind == "variant" and row.seeds), None)
    figure, axes = new_figure(WIDTH, 2.8)
    for label, (steps, losses) in training.items():
        colour, width = {best: (BETTER, 1.8), board.baseline: (INK, 1.8)}.get(label, (NEUTRAL, 0.7))
        named = label in (best, board.baseline)
        axes.plot(
            steps,
            losses,
            color=colour,
            linewidth=width,
            alpha=1 if named else 0.5,
            label=short(label) if named else None,
        )
        if named and label in held_out:
            axes.plot(*held_out[label], "o--", color=colour, linewidth=1, markersize=3, label="the same, held out")
    for one in board.astray:
        trial = next(trial for trial in board.experiment.trials if (trial.label, trial.seed) == (one.variant, one.seed))
        lines = [(line.step, line.loss) for line in trial.steps if line.loss is not None]
        label = f"astray: {short(one.variant)}, seed {one.seed}"
        axes.plot(*zip(*lines, strict=True), color=WORSE, linewidth=1, linestyle=":", label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0)
    return figure


def mean_lines(
    board: Leaderboard, value: Callable[[TrainLine], float | None]
) -> dict[str, tuple[list[int], list[float]]]:
    """Return, by variant, the steps with a value and its mean over seeds at each; long curves are thinned."""
    by_label: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for trial in board.experiment.trials:
        for line in trial.steps:
            if (found := value(line)) is not None:
                by_label[trial.label][line.step].append(found)
    lines = {}
    for label, steps in by_label.items():
        chosen = sorted(steps)[:: 1 + len(steps) // CURVE_POINTS]
        lines[label] = chosen, [float(np.mean(steps[step])) for step in chosen]
    return lines


def shown_in_storage(one: StoredForm) -> bool:
    """Return whether a form is in the figure: further searches are not, nor centred forms, which take equal bytes."""
    return not one.search and "centred" not in one.form.split("-")


def storage(board: Leaderboard) -> Figure | None:
    """Draw the measure of each variant against the size of its index, one point per form of storage."""
    kept = {row.label: [one for one in row.stored if shown_in_storage(one)] for row in board.rows}
    rows = [row for row in board.rows if kept[row.label]]
    if not rows:
        return None
    best = next((row.label for row in rows if row.kind == "variant"), None)
    figure, axes = new_figure(WIDTH, 3.2)
    for row in reversed(rows):
        colour = {board.baseline: INK, best: BETTER}.get(row.label, NEUTRAL)
        chosen = row.label in (board.baseline, best)
        sizes = [one.index_bytes for one in kept[row.label]]
        style = {"linewidth": 1.6 if chosen else 0.7, "alpha": 1.0 if chosen else 0.5}
        scores = [100 * one.score for one in kept[row.label]]
        axes.plot(sizes, scores, "o-", color=colour, markersize=4, label=short(row.label) if chosen else None, **style)
    named = next((row for row in rows if row.label == board.baseline), rows[0])
    # Forms of nearly one size share a place.
    places: dict[int, list[str]] = {}
    for one in kept[named.label]:
        size = next((at for at in places if at / SAME_SIZE < one.index_bytes < at * SAME_SIZE), one.index_bytes)
        places.setdefault(size, []).append(one.form)
    for size, names in places.items():
        where = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom", "fontsize": 7}
        axes.text(size, 0.01, visible("\n".join(names)), **where)
    values = [100 * one.score for row in rows for one in kept[row.label]]
    room, reach = 0.05 * (1 + max(map(len, places.values()))), max(max(values) - min(values), 0.01)
    axes.set_ylim(max(values) + 0.08 * reach - 1.16 * reach / (1 - room), max(values) + 0.08 * reach)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: fmt.bytes_text(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08)
    axes.set_xlabel("size of the index over all datasets")
    axes.set_ylabel(f"{board.measure}, points")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0)
    return figure


def factors(board: Leaderboard) -> Figure | None:
    """Draw the main effects and interactions of the grids, with their intervals for these and for new queries."""
    found = [one for grid in board.factors if grid.effects for one in (*grid.effects.main, *grid.effects.interactions)]
    if not found:
        return None
    figure, axes = rows_figure([effect_title(one) for one in found])
    axes.axvline(0, color=NEUTRAL, linewidth=1)
    for place, one in enumerate(found):
        colours = [ACCENT if scope_tone(scope) != "open" else NEUTRAL for scope in (one.these_queries, one.new_queries)]
        both_scopes(axes, place, one.these_queries, one.new_queries, (colours[0], colours[1]))
    axes.set_xlabel(f"effect, points of {board.measure}")
    return figure


def rates(board: Leaderboard) -> Figure | None:
    """Draw the held-out score of each variant over the learning rate, and the rate that was chosen."""
    swept = {row.label: curve for row in board.rows if (curve := rate_curve(board.experiment, row.label))}
    if not swept:
        return None
    best = next((row.label for row in board.rows if row.kind == "variant" and row.label in swept), None)
    figure, axes = new_figure(WIDTH, 3.0)
    for label, curve in reversed(swept.items()):
        colour = {best: BETTER, board.baseline: INK}.get(label, NEUTRAL)
        named = label in (best, board.baseline)
        line = {"color": colour, "linewidth": 1.8 if named else 0.9, "alpha": 1 if named else 0.6}
        axes.plot(*zip(*curve.points, strict=True), "-", label=short(label) if named else None, **line)
        if curve.chosen is not None:
            axes.plot(*curve.chosen, "o", color=colour, markersize=6)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: setting_text(float(value))))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("learning rate of the head (dots: chosen)")
    axes.set_ylabel(next(curve.measure for curve in swept.values()))
    axes.legend(frameon=False, loc="best")
    return figure


FIGURES: dict[str, Drawing] = {
    "forest": Drawing(
        "Differences from the baseline",
        "Each difference has two 95% intervals: thick for these queries, where only seeds are chance, and "
        "thin for new queries. Blue means better, orange worse and violet equivalent. Grey means that no difference "
        "was shown, not that the two are equal. Diamonds are the baseline and, if there is only one, the references.",
        forest,
        section="top",
    ),
    "seeds": Drawing(
        "Every trial",
        "If the points of two variants overlap, a different seed may reverse their order.",
        seeds,
        section="top",
    ),
    "axis": Drawing(
        "Difference over a setting",
        "Each variant's difference from the baseline at the same setting, with its 95% interval for these queries. An "
        "interval that includes 0 shows no difference.",
        axis_curves,
        wide=True,
    ),
    "heat-map": Drawing(
        "By dataset",
        "Difference from the baseline in points; in bold if that dataset shows it for new queries without the others, "
        "corrected for the number of variants and datasets.",
        heat_map,
        wide=True,
    ),
    "cost": Drawing(
        "Cost at inference",
        "Rows are ordered by score, so a row further up scores higher; whether the difference is more than luck is in "
        "the first figure. Filled points are the cost after training, hollow ones the cost of a head that folds while "
        "it is trained.",
        cost,
    ),
    "curves": Drawing(
        "Training",
        "Loss on the training data, mean over seeds; dashed: on held-out pairs. Thin grey lines are the other "
        "variants, dotted orange ones trials that went astray. A held-out loss that rises means too many steps.",
        curves,
    ),
    "storage": Drawing(
        "Storage against quality",
        "Each point is a form of storage of the token vectors; thin grey lines are the other variants. Centred forms "
        "and further searches are in the table below and on the page Why.",
        storage,
    ),
    "factors": Drawing(
        "Effects of the factors",
        "Each effect, averaged over the other factors, with two 95% intervals: thick for these queries, thin for new "
        "ones. Violet means that it is not 0. A line with two factors is by how much they do more together than each "
        "separately.",
        factors,
        section="factors",
    ),
    "rates": Drawing(
        "Held-out score over the learning rate",
        "Mean over seeds on the held-out pairs or development queries that chose the rates; thin grey lines are the "
        "other variants. A head whose line still rises at the edge needs a wider grid.",
        rates,
        section="rates",
    ),
}
"""The figures by name, in the order of the page; a new one is one entry."""
