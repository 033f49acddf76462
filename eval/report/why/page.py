"""Writes the page "Why" with its figures, and the data of each figure as CSV."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from eval.report import drawing
from eval.report import format as fmt
from eval.report.explanations import Explanation
from eval.report.formats.data_files import csv_of
from eval.report.table import Leaderboard
from eval.report.why.figure import draw, rows_with_values
from eval.report.why.losses import LOSS_HEADING, LOSS_MEANING, loss_figure, loss_lines, loss_sentences, loss_summary
from eval.report.why.sentences import alarm, number, sentence
from experiment.disk.files import write_bytes, write_text
from experiment.disk.records import Meaning

__all__ = ["PAGE", "write_why"]

PAGE = "why.html"
TEMPLATES = Path(__file__).parents[1] / "formats" / "templates"

GROUPS = {
    "geometry": "Geometry of the token embeddings",
    "gradients": "Gradients during training",
    "gain": "Where the gain sits",
    "compression": "Compression and fast search",
}
"""The parts of the page; those of other diagnostics follow under their own names."""


@dataclass(frozen=True)
class Block:
    """A figure of the page with what it says.

    Attributes:
        name: Names its files.
        title: Its heading.
        group: The part of the page.
        said: What it says about these variants.
        meaning: The diagnostic; None for a figure that is explained by ``said``.
        svg: The drawing.
    """

    name: str
    title: str
    group: str
    said: Sequence[str]
    meaning: Meaning | None
    svg: Markup


def write_why(board: Leaderboard, target: Path) -> Path | None:
    """Write the page and its files into a folder; without diagnostics, remove an earlier page.

    Returns:
        The page; None if there is nothing to show.
    """
    page = target / PAGE
    if not board.has_why:
        page.unlink(missing_ok=True)
        return None
    blocks = [
        _block(board, one, target) for one in board.explanations.values() if one.parts and rows_with_values(board, one)
    ]
    if any(row.stored for row in board.rows):
        with drawing.style():
            figure, data = loss_figure(board), csv_of(LOSS_HEADING, loss_lines(board))
        blocks.append(_written("why-losses", LOSS_MEANING, loss_sentences(board), figure, data, target))
    write_text(page, _html(board, blocks))
    return page


def _block(board: Leaderboard, explanation: Explanation, target: Path) -> Block:
    with drawing.style():
        figure = draw(board, explanation)
    said = [text for text in (sentence(board, explanation), alarm(board, explanation)) if text]
    return _written(f"why-{explanation.name}", explanation.meaning, said, figure, _csv(board, explanation), target)


def _written(name: str, meaning: Meaning, said: Sequence[str], figure: Figure, data: str, target: Path) -> Block:
    """Write the files of a figure, and return its block."""
    svg = drawing.svg_bytes(figure)
    write_bytes(target / "figures" / f"{name}.svg", svg)
    write_bytes(target / "figures" / f"{name}.png", drawing.png_bytes(figure))
    write_text(target / "figures" / f"{name}.csv", data)
    # matplotlib has escaped every label in the figure.
    markup = Markup(drawing.inline_svg(svg, name, meaning.title))
    return Block(name, meaning.title, meaning.group, said, meaning, markup)


def _csv(board: Leaderboard, explanation: Explanation) -> str:
    """Return every value behind a figure, one line per row, seed, dataset and part."""
    lines = [
        [row.label, seed, dataset, part, value]
        for row in rows_with_values(board, explanation)
        for part in explanation.parts
        for (seed, dataset), value in explanation.values[part].get(row.label, {}).items()
    ]
    return csv_of(["variant", "seed", "dataset", "part", explanation.name], lines)


def _html(board: Leaderboard, blocks: Sequence[Block]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: fmt.visible(value) if type(value) is str else value,
    )
    alarms = [alarm(board, one) for one in board.explanations.values() if one.parts]
    names = dict.fromkeys([*GROUPS, *(block.group for block in blocks)])
    groups: dict[str, Any] = {
        GROUPS.get(name, name): [block for block in blocks if block.group == name] for name in names
    }
    return environment.get_template("why.html.j2").render(
        board=board,
        experiment=board.experiment,
        groups={title: inside for title, inside in groups.items() if inside},
        short=[*filter(None, alarms), *loss_summary(board)],
        range_text=_range,
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
    )


def _range(meaning: Meaning) -> str:
    low, high = meaning.range
    if low is None and high is None:
        return "any number"
    if high is None and low is not None:
        return f"{number(low)} or more"
    return f"{number(high or 0.0)} or less" if low is None else f"{number(low)} to {number(high or 0.0)}"
