"""The leaderboard as one self-contained HTML page: no network, no other file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.report import format as fmt
from eval.report.advice import advice
from eval.report.answer import answer, remarks
from eval.report.answer import warnings as alerts
from eval.report.certainty import confirmation, luck
from eval.report.columns import BoardColumn, board_columns
from eval.report.drawing import inline_svg
from eval.report.effect_text import effect_title, effect_word, warnings
from eval.report.figures import FIGURES
from eval.report.queries import changed_queries, shown_variant
from eval.report.rates import rate_lines, rate_note
from eval.report.table import Leaderboard, Row
from eval.report.words import scope_tone, tone, verdict_cell

__all__ = ["TEMPLATES", "html_text", "template_environment"]

TEMPLATES = Path(__file__).parent / "templates"

DATA_FILES = ("leaderboard.csv", "leaderboard.json", "leaderboard.md", "leaderboard.tex")
"""The files beside the page that it links to."""


def template_environment() -> Environment:
    """Return what fills in the templates of pages: every value is escaped, and odd characters are made visible."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: fmt.visible(value) if type(value) is str else value,
    )


def html_text(board: Leaderboard, drawn: Mapping[str, bytes]) -> str:
    """Return leaderboard.html.

    Args:
        board: The leaderboard.
        drawn: SVG of each figure that has something to show, by its name in ``FIGURES``.
    """
    environment = template_environment()
    environment.globals["fmt"] = fmt
    environment.filters["breakable"] = _breakable
    environment.filters["unbroken"] = _unbroken
    environment.filters["tone"] = scope_tone
    environment.filters["effect_title"] = effect_title
    environment.filters["effect_word"] = effect_word
    environment.filters["warnings"] = warnings
    drawings = {
        # matplotlib has escaped every label in a figure, and the two assets are our own files.
        name: (FIGURES[name], Markup(inline_svg(svg, name, FIGURES[name].title)))
        for name, svg in drawn.items()
    }
    row = shown_variant(board)
    columns = board_columns(board, "html")
    return environment.get_template("leaderboard.html.j2").render(
        board=board,
        experiment=board.experiment,
        answer=answer(board),
        advice=advice(board),
        files=DATA_FILES,
        alerts=alerts(board),
        remarks=remarks(board),
        columns=columns,
        rows=[_row(board, row, columns[1:]) for row in (*board.rows, *board.references)],
        figures=drawings,
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup((TEMPLATES / "table.js").read_text(encoding="utf-8")),
        shown=row,
        changed=changed_queries(board, row) if row else [],
        wanted=fmt.WANTED,
        luck=luck(board),
        confirmation=confirmation(board),
        rates=rate_lines(board),
        rate_note=rate_note(board),
        stored=[(row.label, one) for row in board.rows for one in row.stored],
        indexes={name: _index(board, name) for name in board.datasets},
        versions=_versions(board),
        hashes=_hashes(board),
    )


def _row(board: Leaderboard, row: Row, columns: Sequence[BoardColumn]) -> dict[str, Any]:
    """Return a row's cells, each with the value by which its column sorts; one without a value sorts last."""
    cells = [
        (one.column, one.text(row), "" if (value := one.sort(row)) is None else value, _tone(row, one.column.toned))
        for one in columns
    ]
    return {
        "label": row.label,
        "about": row.about,
        "kind": row.kind,
        "tone": tone(row.verdict) if row.verdict else "",
        "verdict": verdict_cell(board, row),
        "cells": cells,
    }


def _tone(row: Row, scope: str) -> str:
    """Return the tone of a cell: that of the row's verdict for new queries, or for these."""
    if row.verdict is None or not scope:
        return ""
    return scope_tone(row.verdict.new_queries) if scope == "new" else tone(row.verdict)


def _breakable(label: str) -> Markup:
    """Let a long label break after brackets, commas and the like."""
    return Markup("<wbr>").join(re.findall(r"[^(,:/]*[(,:/]?", fmt.visible(label)))


def _unbroken(text: str) -> Markup:
    """Let a cell break before an interval only."""
    parts = re.split(r" (?=\[)", fmt.visible(text))
    return Markup(" ").join(Markup('<span class="unbroken">{}</span>').format(part) for part in parts if part)


def _index(board: Leaderboard, dataset: str) -> str:
    """Name every way in which a dataset was searched."""
    ways = {
        trial.evaluations[dataset].record.index.factory or trial.evaluations[dataset].record.index.kind
        for trial in board.experiment.trials
        if dataset in trial.evaluations
    }
    return ", ".join(sorted(ways))


def _versions(board: Leaderboard) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for trial in board.experiment.trials:
        for name, version in trial.record.versions.items():
            found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(found[name])) for name in sorted(found)}


def _hashes(board: Leaderboard) -> dict[str, list[str]]:
    """Return the distinct hashes of what went into the trials and evaluations."""
    trials = board.experiment.trials
    found = {
        "configuration": {trial.record.config_hash or "" for trial in trials},
        "training data": {trial.record.data_hash or "" for trial in trials},
    }
    found |= {name: {dataset.hash} for name, dataset in board.datasets.items()}
    return {name: sorted(values - {""}) for name, values in found.items()}
