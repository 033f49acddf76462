"""The diagnostics in the guide, from their registry."""

from text import inline, table

from eval.explain import Diagnostic, list_diagnostics
from experiment.disk.records import Meaning

__all__ = ["diagnostic_tables"]

_HEADINGS = {"geometry": "Geometry of the token embeddings", "gradients": "Gradients during training"}
_HEADINGS["gain"] = "Where the gain sits"


def diagnostic_tables() -> str:
    """Return the Markdown of a heading and a table for each group."""
    found = list_diagnostics()
    groups = dict.fromkeys([*_HEADINGS, *(one.meaning.group for one in found)])
    parts = []
    for group in groups:
        inside = [one for one in found if one.meaning.group == group]
        if inside:
            parts += [f"### {_HEADINGS.get(group, group.title())}", _table(inside)]
    return "\n\n".join(parts)


def _table(diagnostics: list[Diagnostic]) -> str:
    rows = []
    for one in diagnostics:
        about = one.meaning
        named = f"**{inline(about.title)}**<br>`{one.name}`"
        rows.append([named, *map(_cell, (about.formula, _range(about), about.high, about.low, about.source))])
    return table(["diagnostic", "formula", "range", "high", "low", "source"], rows)


def _cell(text: str) -> str:
    return inline(text).replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")


def _range(about: Meaning) -> str:
    low, high = ("" if end is None else f"{end:g}" for end in about.range)
    if low and high:
        return f"{low} to {high}"
    return f"{low} or more" if low else f"{high} or less" if high else "any"
