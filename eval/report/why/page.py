"""Writes the page "Why" with its figures, and the data of each figure as CSV."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from eval.report import drawing
from eval.report.explanations import Explanation
from eval.report.formats.data_files import csv_of
from eval.report.formats.html import TEMPLATES, template_environment
from eval.report.table import Leaderboard, Row
from eval.report.why.bands import Split, splits
from eval.report.why.figure import Panel, band_panels, draw, panels, rows_with, shown_rows
from eval.report.why.losses import (
    LOSS_HEADING,
    LOSS_MEANING,
    loss_figure,
    loss_lines,
    loss_sentences,
    losses_by_trial,
)
from eval.report.why.predict import Correlation, Prediction, predictions
from eval.report.why.sentences import alarm, number, sentence, split_sentence
from eval.report.why.short import in_short
from experiment.disk.files import write_bytes, write_text
from experiment.disk.records import Meaning

__all__ = ["PAGE", "write_why"]

PAGE = "why.html"

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
        columns: The headings of the values in the drawing.
        others: The rows that the drawing does not show, each with its values.
    """

    name: str
    title: str
    group: str
    said: Sequence[str]
    meaning: Meaning | None
    svg: Markup
    columns: Sequence[str] = ()
    others: Sequence[tuple[str, Sequence[str]]] = ()


def write_why(board: Leaderboard, target: Path) -> Path | None:
    """Write the page and its files into a folder; without diagnostics, remove an earlier page.

    Returns:
        The page; None if there is nothing to show.
    """
    page = target / PAGE
    if not board.has_why:
        page.unlink(missing_ok=True)
        return None
    found = splits(board)
    predicted = predictions(board, [losses_by_trial(board)])
    explained = sorted(board.explanations.values(), key=lambda one: not one.meaning.alarm)
    blocks = [block for one in explained if (block := _explained(board, one, target))]
    blocks += [block for one in found if (block := _split(board, one, target))]
    if any(row.stored for row in board.rows):
        blocks.append(_losses(board, target))
    if predicted:
        write_text(target / "figures" / "why-prediction.csv", _prediction_csv(predicted))
    write_text(page, _html(board, blocks, predicted, in_short(board, found, predicted)))
    return page


def _explained(board: Leaderboard, explanation: Explanation, target: Path) -> Block | None:
    """Return the block of a diagnostic; None if it has no value."""
    shown = panels(board, explanation)
    rows = rows_with(board, shown)
    if not rows:
        return None
    name, meaning = f"why-{explanation.name}", explanation.meaning
    lines = [
        [row.label, seed, dataset, part, value]
        for row in rows
        for part in explanation.parts
        for (seed, dataset), value in explanation.values[part].get(row.label, {}).items()
    ]
    heading = ["variant", "seed", "dataset", "part", explanation.name]
    write_text(target / "figures" / f"{name}.csv", csv_of(heading, lines))
    said = [text for text in (sentence(board, explanation), ": ".join(alarm(board, explanation) or ())) if text]
    svg = _svg(lambda: draw(rows, shown), name, meaning.title, target)
    return Block(name, meaning.title, meaning.group, said, meaning, svg, *_others(rows, shown))


def _split(board: Leaderboard, split: Split, target: Path) -> Block | None:
    """Return the block of the differences on groups of queries; None if no row has one."""
    shown = band_panels(split)
    rows = rows_with(board, shown)
    if not rows:
        return None
    name = f"why-{split.name}"
    lines = [
        [row.label, band.name, band.queries, *band.differences[row.label]]
        for row in rows
        for band in split.bands
        if row.label in band.differences
    ]
    heading = ["variant", "band", "queries", "difference", "low", "high"]
    write_text(target / "figures" / f"{name}.csv", csv_of(heading, lines))
    said = [split_sentence(board, split), split.about]
    svg = _svg(lambda: draw(rows, shown), name, split.title, target)
    return Block(name, split.title, "gain", said, None, svg, *_others(rows, shown))


def _others(rows: Sequence[Row], shown: Sequence[Panel]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the headings and values of the rows that a figure leaves out."""
    drawn = {row.label for row in shown_rows(rows, shown)}
    columns = {
        f"{panel.title}: {name}" if name else panel.title: values
        for panel in shown
        for name, values in panel.series.items()
    }
    return list(columns), [
        (row.label, [number(values[row.label][0]) if row.label in values else "" for values in columns.values()])
        for row in rows
        if row.label not in drawn
    ]


def _losses(board: Leaderboard, target: Path) -> Block:
    """Return the block of what each storage form and further search takes off each head."""
    name, meaning = "why-losses", LOSS_MEANING
    write_text(target / "figures" / f"{name}.csv", csv_of(LOSS_HEADING, loss_lines(board)))
    svg = _svg(lambda: loss_figure(board), name, meaning.title, target)
    return Block(name, meaning.title, meaning.group, loss_sentences(board), meaning, svg)


def _svg(make: Callable[[], Figure], name: str, title: str, target: Path) -> Markup:
    """Draw a figure, write its files, and return it for the page."""
    with drawing.style():
        figure = make()
        svg, png = drawing.svg_bytes(figure), drawing.png_bytes(figure)
    write_bytes(target / "figures" / f"{name}.svg", svg)
    write_bytes(target / "figures" / f"{name}.png", png)
    # matplotlib has escaped every label in the figure.
    return Markup(drawing.inline_svg(svg, name, title))


def _prediction_csv(predicted: Sequence[Prediction]) -> str:
    heading = ["diagnostic", "part", "trials", "heads"]
    heading += [f"{what}{end}" for what in ("score", "difference") for end in ("", "_low", "_high")]
    rows = []
    for one in predicted:
        both = [(c.value, c.low, c.high) if c else (None, None, None) for c in (one.score, one.difference)]
        rows.append([one.name, one.part, one.trials, one.heads, *both[0], *both[1]])
    return csv_of(heading, rows)


def _html(
    board: Leaderboard, blocks: Sequence[Block], predicted: Sequence[Prediction], short: Sequence[tuple[str, str]]
) -> str:
    names = dict.fromkeys([*GROUPS, *(block.group for block in blocks)])
    groups: dict[str, Any] = {
        GROUPS.get(name, name): [block for block in blocks if block.group == name] for name in names
    }
    return (
        template_environment()
        .get_template("why.html.j2")
        .render(
            board=board,
            experiment=board.experiment,
            groups={title: inside for title, inside in groups.items() if inside},
            short=short,
            predicted=predicted,
            correlation=_correlation,
            range_text=_range,
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        )
    )


def _correlation(found: Correlation | None) -> str:
    if found is None:
        return ""
    if found.low is None or found.high is None:
        return number(found.value)
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"


def _range(meaning: Meaning) -> str:
    low, high = meaning.range
    if low is None and high is None:
        return "any number"
    if high is None and low is not None:
        return f"{number(low)} or more"
    return f"{number(high or 0.0)} or less" if low is None else f"{number(low)} to {number(high or 0.0)}"
