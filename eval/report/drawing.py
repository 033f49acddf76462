"""How figures look, and how they become files and parts of the page."""

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from eval.report.format import visible

__all__ = ["ACCENT", "BETTER", "FAINT", "INK", "NEUTRAL", "WORSE", "inline_svg", "png_bytes", "style", "svg_bytes"]

INK, FAINT, NEUTRAL, BETTER, WORSE, ACCENT = "#1b1f24", "#d5d9de", "#7a828c", "#1f5fb0", "#b85c00", "#5a4a8a"
"""Blue and orange differ for every kind of colour vision; so do the dark violet of what is equivalent and the grey."""

PAGE_COLOURS = {
    INK: "currentColor",
    FAINT: "var(--line)",
    BETTER: "var(--better)",
    WORSE: "var(--worse)",
    ACCENT: "var(--accent)",
}
"""CSS that replaces a colour on a page, so that figures follow its dark mode."""

FONTS = (
    "DejaVu Sans",
    *(
        "Noto Sans",
        "Noto Sans CJK SC",
        "Noto Sans CJK JP",
        "Noto Sans CJK KR",
        "Noto Sans Devanagari",
        "Noto Sans Thai",
    ),
    *(
        "WenQuanYi Micro Hei",
        "WenQuanYi Zen Hei",
        "Arial Unicode MS",
        "PingFang SC",
        "Hiragino Sans",
        "Apple SD Gothic Neo",
    ),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI", "Leelawadee UI"),
)
"""Fonts of figures: the one that comes with matplotlib, and common system fonts with wide coverage."""

SCALE = 1.75
"""Most pixels of the page per point of a figure; the same for all, so that their text has one size."""

STYLE: dict[Any, Any] = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 8,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "projheads",
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a label is not mathematics
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of the report; matplotlib's settings are restored afterwards."""
    with matplotlib.rc_context({**STYLE, "font.family": installed_fonts()}):
        yield


@cache
def installed_fonts() -> list[str]:
    """Return the fonts of ``FONTS`` that this machine has."""
    found = {entry.name for entry in font_manager.fontManager.ttflist}
    return [name for name in FONTS if name in found]


@cache
def glyphs() -> frozenset[int]:
    paths = [font_manager.findfont(name) for name in installed_fonts()]
    return frozenset(code for path in paths for code in font_manager.get_font(path).get_charmap())


def drawable(text: str) -> str:
    r"""Write characters that no installed font has as escapes, ``\u4e2d``, instead of empty boxes."""
    return "".join(
        letter if ord(letter) in glyphs() or letter.isspace() else letter.encode("unicode_escape").decode()
        for letter in text
    )


class _Renderer(RendererAgg):
    """Draws ``drawable`` text; matplotlib would draw boxes for characters without a glyph."""

    def draw_text(self, gc: Any, x: float, y: float, s: str, *rest: Any, **named: Any) -> None:
        base: Any = super()
        base.draw_text(gc, x, y, drawable(s), *rest, **named)

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> Any:
        base: Any = super()
        return base.get_text_width_height_descent(drawable(s), prop, ismath)


class _Canvas(FigureCanvasAgg):
    def get_renderer(self) -> Any:
        width, height = self.figure.bbox.size
        key = (width, height, self.figure.dpi)
        if getattr(self, "_made_for", None) != key:
            make: Any = _Renderer
            self.renderer, self._made_for = make(*key), key
        return self.renderer


def svg_bytes(figure: Figure) -> bytes:
    """Return the figure as an SVG file, the same bytes every time; its labels stay text for the viewer to draw."""
    with style(), warnings.catch_warnings():
        # The viewer of the file may have a font for characters that no font here has.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasSVG(figure)
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    return visible(target.getvalue().decode("utf-8", "surrogatepass")).encode()


def png_bytes(figure: Figure) -> bytes:
    """Return the figure as a PNG on white, at 200 dots per inch."""
    with style():
        _Canvas(figure)
        target = io.BytesIO()
        figure.savefig(
            target, format="png", dpi=200, bbox_inches="tight", facecolor="white", metadata={"Software": None}
        )
    return target.getvalue()


def inline_svg(svg: bytes, name: str, title: str) -> str:
    """Turn an SVG file into markup for a page, with unique ids, the colours of the page and a title.

    Args:
        svg: From ``svg_bytes``; matplotlib has escaped every label in it.
        name: Name of the figure; it makes its ids unique.
        title: The title for screen readers.
    """
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = _compact(re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL), name)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for colour, variable in PAGE_COLOURS.items():
        text = text.replace(colour, variable)
    width = re.search(r' width="([\d.]+)pt"', text)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    size = f'style="width: {SCALE * float(width[1]):.0f}px" ' if width else ""
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" {size}', 1)


def _compact(text: str, name: str) -> str:
    """Drop what a page does not need: unused ids, empty groups, invisible digits; styles that repeat become classes.

    Only tags are changed, never the text between them.
    """
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    repeated = [style for style, times in Counter(re.findall(r' style="([^"<>]*)"[^<>]*>', text)).items() if times > 2]
    classes = {style: f"{name}-{place}" for place, style in enumerate(repeated)}

    def shorter(tag: re.Match[str]) -> str:
        made = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", tag[0])
        made = re.sub(r' transform="rotate\(-?0 [^"]*"', "", made)
        made = re.sub(
            r' style="([^"]*)"',
            lambda found: f' class="{classes[found[1]]}"' if found[1] in classes else found[0],
            made,
        )
        return re.sub(r"(\.\d\d)\d+|\s*\n\s*", lambda found: found[1] or " ", made)

    text = re.sub(r"<[^>]+>", shorter, re.sub(r">\s+<", "><", text))
    while (without := re.sub(r"<g/>|<g></g>", "", text)) != text:
        text = without
    rules = "".join(f".{name}{{{style}}}" for style, name in classes.items())
    return text.replace("</style>", f"{rules}</style>", 1)
