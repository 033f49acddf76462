"""The figures of the study, each drawn from leaderboards: a panel for each backbone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from eval.report.canvas import new_figure
from eval.report.drawing import ACCENT, BETTER, FAINT, INK, NEUTRAL, WORSE, style, svg_bytes

__all__ = ["NAMES", "Board", "by_pairs", "by_start", "effect_name", "forest", "learning_rates", "main_effects"]

Board = Mapping[str, Any]
"""The content of a leaderboard.json."""

NAMES = {"minilm": "MiniLM", "e5": "e5-small"}

STARTS = {
    "torch": "random, each head its own",
    "shared": "random, the same map",
    "svd": "SVD of matched tokens",
    "pca": "PCA of the token states",
}
"""The starts from top to bottom, and what the figure calls them."""

MARKS = (("o", BETTER), ("s", WORSE), ("D", ACCENT), ("^", NEUTRAL))
"""Marker and colour of each head."""

COLOURS = (BETTER, WORSE, ACCENT, NEUTRAL, "#2a8f6d", "#a3336b")
"""Of the curves of heads other than the baseline; dashed ones use them again."""

PANEL = 3.2
"""Height of a panel above a legend, in inches."""

LONGEST = 72
"""Letters of a label beside a panel."""

LETTER = 0.05
"""Width of one of them, in inches."""


def forest(boards: Mapping[str, Board]) -> bytes:
    """Draw each row's difference on each dataset and over all."""
    labels = [row["label"] for row in next(iter(boards.values()))["rows"] if row["verdict"]]
    with style():
        figure, panels = _panels(boards, 3.4, 0.9 + 0.34 * len(labels), list(map(_short, labels)))
        for axes, board in panels:
            axes.axvline(0, color=INK, linewidth=0.8)
            rows = {row["label"]: row for row in board["rows"] if row["verdict"]}
            for place, label in enumerate(labels):
                if label in rows:
                    for verdict in rows[label]["dataset_verdicts"].values():
                        axes.plot(100 * verdict["difference"], place, "o", color=WORSE, markersize=3, alpha=0.7)
                    _interval(axes, place, rows[label]["verdict"]["these_queries"], BETTER)
            axes.set_xlabel("difference from linear in points")
        figure.tight_layout()
        return svg_bytes(figure)


def main_effects(boards: Mapping[str, Board]) -> bytes:
    """Draw the main effects of all factors, on these queries and for new ones."""
    found = {backbone: dict(_effects(board)) for backbone, board in boards.items()}
    labels = list(dict.fromkeys(label for effects in found.values() for label in effects))
    with style():
        figure, panels = _panels(boards, 3.8, 1.1 + 0.34 * len(labels), list(map(_short, labels)))
        for (axes, _), effects in zip(panels, found.values(), strict=True):
            axes.axvline(0, color=INK, linewidth=0.8)
            for place, label in enumerate(labels):
                if label in effects:
                    _interval(axes, place + 0.14, effects[label]["new_queries"], NEUTRAL)
                    _interval(axes, place - 0.14, effects[label]["these_queries"], BETTER)
            axes.set_xlabel("effect in points")
        figure.text(0.01, 0.01, "blue: these queries; grey: new queries", fontsize=7)
        figure.tight_layout()
        return svg_bytes(figure)


def learning_rates(boards: Mapping[str, Board]) -> bytes:
    """Draw every head's score on the development queries over the learning rate; the mean over seeds."""

    def draw(axes: Any, board: Board) -> None:
        tried: set[float] = set()
        for place, row in enumerate(sorted(board["rows"], key=lambda row: (row["kind"] != "baseline", row["label"]))):
            rates, means = zip(*_curve(row["sweep"]), strict=True)
            tried |= set(rates)
            baseline = row["kind"] == "baseline"
            look = {"color": INK, "linewidth": 2.2} if baseline else {"color": COLOURS[place % len(COLOURS)]}
            line = "-" if place <= len(COLOURS) else "--"
            axes.plot(rates, 100 * np.array(means), line, marker="o", markersize=3, label=row["label"], **look)
        axes.set_xscale("log")
        axes.set_xticks(sorted(tried), [f"{rate:.2g}" for rate in sorted(tried)])
        axes.minorticks_off()
        axes.set_xlabel("learning rate of the head")
        axes.set_ylabel(f"{board['measure']} on development queries")

    return _with_legend(boards, draw, tested=False)


def by_pairs(boards: Mapping[str, Board]) -> bytes:
    """Draw every head's difference from linear over the number of training pairs, with intervals on these queries."""

    def draw(axes: Any, board: Board) -> None:
        axes.axhline(0, color=INK, linewidth=0.8)
        heads: dict[str, dict[int, Any]] = {}
        for row in board["rows"]:
            if row["verdict"]:
                head, _, pairs = row["label"].partition(" @ max_pairs=")
                heads.setdefault(head, {})[int(pairs)] = row["verdict"]["these_queries"]
        for place, (head, by_size) in enumerate(sorted(heads.items())):
            marker, colour = MARKS[place]
            for size, scope in by_size.items():
                at = size * 1.12 ** (place - 1)
                axes.plot([at, at], [100 * scope["low"], 100 * scope["high"]], color=colour, linewidth=1.2)
                label = head if size == min(by_size) else None
                axes.plot(at, 100 * scope["difference"], marker, color=colour, markersize=5, label=label)
        sizes = sorted({size for by_size in heads.values() for size in by_size})
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("training pairs")
        axes.set_ylabel("difference from linear in points")

    return _with_legend(boards, draw)


def by_start(boards: Mapping[str, Board]) -> bytes:
    """Draw the score of every head from every start."""
    with style():
        figure, panels = _panels(boards, 5.7, 2.9, list(STARTS.values()))
        for axes, board in panels:
            measure = board["measure"]
            scores = {tuple(row["label"].split(" @ init=")): row for row in board["rows"]}
            heads = sorted({head for head, _ in scores}, key=lambda head: (head != "linear", head))
            for place, start in enumerate(STARTS):
                axes.axhline(place, color=FAINT, linewidth=0.8, zorder=0)
                for shift, (head, (marker, colour)) in enumerate(zip(heads, MARKS, strict=True)):
                    row = scores[head, start]
                    axes.errorbar(
                        100 * row["mean"][measure],
                        place + 0.16 * (shift - 1.5),
                        xerr=100 * row["spread"][measure],
                        fmt=marker,
                        color=colour,
                        markersize=5,
                        label=None if place else head,
                    )
            own = next(one["mean"][measure] for one in board["references"] if one["label"] == "backbone")
            axes.axvline(100 * own, color=INK, linewidth=0.8, linestyle=":", label="the backbone's own tokens")
            axes.set_xlabel(f"{measure} in points, mean and standard deviation over ten seeds")
        figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False)
        figure.tight_layout(rect=(0, 0.14, 1, 1))
        return svg_bytes(figure)


def effect_name(effect: Mapping[str, Any]) -> str:
    """Return what an effect changes, such as ``depth: 3 instead of 2``."""
    changes = zip(effect["factors"], effect["levels"], effect["against"], strict=True)
    return " x ".join(f"{factor}: {level} instead of {against}" for factor, level, against in changes)


def _effects(board: Board) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for grid in board["factors"]:
        for effect in grid["effects"]["main"] if grid["effects"] else ():
            yield effect_name(effect), effect


def _panels(
    boards: Mapping[str, Board], width: float, height: float, names: Sequence[str] = (), *, tested: bool = True
) -> tuple[Any, list[tuple[Any, Board]]]:
    """Make a figure with a panel for each backbone; with names, one line for each, named beside the first panel.

    Args:
        boards: The leaderboard of each backbone.
        width: Of a panel, in inches.
        height: Of the figure, in inches.
        names: Of the lines, if there are any.
        tested: Whether the panels show the test collections, which their titles then count.
    """
    beside = LETTER * max(map(len, names), default=0)
    figure, first = new_figure(width * len(boards) + beside, height)
    first.remove()
    panels = []
    for number, (backbone, board) in enumerate(boards.items()):
        axes = figure.add_subplot(1, len(boards), number + 1)
        if names:
            axes.set_yticks(range(len(names)), [""] * len(names) if number else names)
            axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(f"{NAMES[backbone]}, {_collections(board)}" if tested else NAMES[backbone])
        panels.append((axes, board))
    return figure, panels


def _with_legend(boards: Mapping[str, Board], draw: Callable[[Any, Board], None], *, tested: bool = True) -> bytes:
    """Draw a panel for each backbone, with one legend below them; ``tested`` is that of ``_panels``."""
    with style():
        figure, panels = _panels(boards, 4.4, PANEL, tested=tested)
        for axes, board in panels:
            axes.grid(color=FAINT, linewidth=0.6)
            draw(axes, board)
        handles, labels = axes.get_legend_handles_labels()
        below = 0.2 + 0.17 * -(-len(labels) // len(boards))
        figure.set_figheight(PANEL + below)
        figure.legend(handles, list(map(_short, labels)), loc="lower center", ncols=len(boards), frameon=False)
        figure.tight_layout(rect=(0, below / (PANEL + below), 1, 1))
        return svg_bytes(figure)


def _collections(board: Board) -> str:
    names = [one["name"] for one in board["datasets"]]
    return names[0] if len(names) == 1 else f"{len(names)} collections"


def _interval(axes: Any, place: float, scope: Mapping[str, Any], colour: str) -> None:
    if scope["low"] is not None:
        axes.plot([100 * scope["low"], 100 * scope["high"]], [place, place], color=colour, linewidth=2.5)
    axes.plot(100 * scope["difference"], place, "o", color=colour, markersize=5)


def _curve(points: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Return the rates of a sweep at which no seed failed, with their mean scores."""
    curve = []
    for point in points:
        scores = [score for score in point["scores"].values() if score is not None]
        if len(scores) == len(point["scores"]):
            curve.append((float(point["values"]["optimizer.head_lr"]), float(np.mean(scores))))
    return sorted(curve)


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
