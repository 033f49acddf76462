"""The figures, one function each, all in one quiet style. They show numbers that stand in the table too."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from eval.report.table import Leaderboard, Row

__all__ = ["FIGURES", "inline_svg", "png_bytes", "svg_bytes"]

INK, FAINT, NEUTRAL, BETTER, WORSE, ACCENT = "#1b1f24", "#d5d9de", "#7a828c", "#1a7f5a", "#b3432f", "#2c5fa8"
WORD_COLOURS = {"better": BETTER, "worse": WORSE}

STYLE: dict[Any, Any] = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "projheads",
    "text.color": INK,
    "text.parse_math": False,  # a label with a dollar sign is a label
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of the report; matplotlib's settings are as before afterwards."""
    with matplotlib.rc_context(STYLE):
        yield


def forest(board: Leaderboard) -> Figure | None:
    """Draw each variant's difference to the baseline with its 95% interval."""
    rows = [row for row in board.rows if row.verdict is not None]
    if not rows:
        return None
    figure, axes = _rows_figure(len(rows))
    axes.axvline(0, color=NEUTRAL, linewidth=1)
    for place, row in enumerate(rows):
        if row.verdict is None:
            continue
        colour = WORD_COLOURS.get(row.verdict.word, NEUTRAL)
        axes.plot([100 * row.verdict.low, 100 * row.verdict.high], [place, place], color=colour, linewidth=2)
        axes.plot(100 * row.verdict.difference, place, "o", color=colour, markersize=6)
    _label_rows(axes, rows)
    axes.set_xlabel(f"difference to {board.baseline}, points of {board.measure}")
    return figure


FIGURES: dict[str, tuple[str, Callable[[Leaderboard], Figure | None]]] = {
    "forest": ("Difference to the baseline with its 95% interval", forest),
}
"""By name: the caption, and the function that draws it or returns None where there is nothing to draw."""


def svg_bytes(figure: Figure) -> bytes:
    """Return the figure as an SVG file, the same bytes every time."""
    with style():
        FigureCanvasSVG(figure)
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    return target.getvalue()


def png_bytes(figure: Figure) -> bytes:
    """Return the figure as a PNG on white, 200 dots an inch."""
    with style():
        FigureCanvasAgg(figure)
        target = io.BytesIO()
        figure.savefig(
            target, format="png", dpi=200, bbox_inches="tight", facecolor="white", metadata={"Software": None}
        )
    return target.getvalue()


def inline_svg(svg: bytes, name: str, title: str) -> str:
    """Turn an SVG file into markup for a page: ids of its own, ink that follows the page's colour, a title.

    Args:
        svg: From ``svg_bytes``; matplotlib has escaped every label in it.
        name: Name of the figure, which makes its ids different from those of other figures.
        title: What a screen reader says.
    """
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor").replace(' version="1.1"', "")
    width = re.search(r'width="([\d.]+)pt"', text)
    text = re.sub(r'<svg ([^>]*?)width="[\d.]+pt"', r"<svg \1", text, count=1)
    text = re.sub(r' height="[\d.]+pt"', "", text, count=1)
    style_attribute = f'style="width:{float(width[1]) * 4 / 3:.0f}px" ' if width else ""
    escaped = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{escaped}" {style_attribute}', 1)


def _rows_figure(count: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7.2, 0.9 + 0.28 * count))
    axes = figure.add_subplot()
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def _label_rows(axes: Any, rows: list[Row]) -> None:
    axes.set_yticks(np.arange(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
