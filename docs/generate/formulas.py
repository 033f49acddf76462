"""Formulas as MathML, which browsers render without a script: the site works offline."""

import html
import re

from latex2mathml.converter import convert

__all__ = ["render_formulas"]

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def render_formulas(page: str) -> str:
    """Replace the LaTeX that ``pymdownx.arithmatex`` marked."""
    return _FORMULA.sub(_rendered, page)


def _rendered(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    formula = convert(html.unescape(found[2]), display=display)
    return f'<div class="formula">{formula}</div>' if found[1] == "div" else formula
