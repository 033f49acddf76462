"""Docstrings as Markdown."""

import inspect
import re
from typing import Any

import griffe

__all__ = ["described", "inline", "plain_roles", "prose", "table"]


def plain_roles(text: str) -> str:
    """Remove Sphinx roles from names; they mean nothing on the site."""
    return re.sub(r":(?:func|class|mod|meth|data|attr):\s*(?=`|<code>)", "", text).replace("`~", "`")


def described(cls: type[Any]) -> dict[str, str]:
    """Return a class docstring's description of each argument or attribute."""
    sections = griffe.Docstring(inspect.cleandoc(cls.__doc__ or ""), parser="google").parse(warnings=False)
    kinds = (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes)
    return {
        item.name: " ".join(item.description.split())
        for section in sections
        if section.kind in kinds
        for item in section.value
    }


def prose(docstring: str) -> str:
    """Return the text of a docstring before its sections, as Markdown."""
    text = re.split(r"\n(?:Args|Attributes|Returns|Raises):\n", inspect.cleandoc(docstring))[0]
    return re.sub(r"([*<])", r"\\\1", plain_roles(text).replace("``", "`")).strip()


def inline(text: str) -> str:
    """Return text escaped for a table cell."""
    return plain_roles(text).replace("``", "`").replace("|", "\\|").replace("\n", " ")


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
