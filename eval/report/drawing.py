"""How figures look, and how they become files and parts of a page."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

__all__ = ["ACCENT", "BETTER", "FAINT", "INK", "NEUTRAL", "WORSE", "inline_svg", "png_bytes", "style", "svg_bytes"]

INK, FAINT, NEUTRAL, BETTER, WORSE, ACCENT = "#1b1f24", "#d5d9de", "#7a828c", "#1a7f5a", "#b3432f", "#2c5fa8"
PAGE_COLOURS = {
    INK: "currentColor",
    FAINT: "var(--line)",
    BETTER: "var(--better)",
    WORSE: "var(--worse)",
    ACCENT: "var(--accent)",
}
"""What a page puts in the place of a colour, so that figures follow it into the dark."""

SCALE = 1.75
"""Pixels of a page for one point of a figure, at most: the same for all, so that their letters are alike."""

STYLE: dict[Any, Any] = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8,
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
    """Turn an SVG file into markup for a page: ids of its own, the colours of the page, a title.

    Args:
        svg: From ``svg_bytes``; matplotlib has escaped every label in it.
        name: Name of the figure, which makes its ids different from those of other figures.
        title: What a screen reader says.
    """
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for colour, variable in PAGE_COLOURS.items():
        text = text.replace(colour, variable)
    width = re.search(r' width="([\d.]+)pt"', text)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    size = f'style="width: {SCALE * float(width[1]):.0f}px" ' if width else ""
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" {size}', 1)
