"""The leaderboard as one HTML page that needs nothing else: no network, no other file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.report import format as fmt
from eval.report.answer import answer, notes
from eval.report.drawing import inline_svg
from eval.report.figures import FIGURES
from eval.report.linearised import column_title, if_linearised
from eval.report.queries import changed_queries, shown_variant
from eval.report.table import Leaderboard, Row

__all__ = ["html_text"]

TEMPLATES = Path(__file__).parent / "templates"


def html_text(board: Leaderboard, drawn: Mapping[str, bytes]) -> str:
    """Return leaderboard.html.

    Args:
        board: The leaderboard.
        drawn: SVG file of each figure that has something to show, by its name in ``FIGURES``.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: fmt.visible(value) if type(value) is str else value,
    )
    environment.globals["fmt"] = fmt
    environment.filters["breakable"] = _breakable
    row = shown_variant(board)
    return environment.get_template("leaderboard.html.j2").render(
        board=board,
        experiment=board.experiment,
        answer=answer(board),
        notes=notes(board),
        columns=_columns(board),
        rows=[_cells(board, row) for row in (*board.rows, *board.references)],
        # matplotlib has escaped every label in a figure, and the two assets are our own files.
        figures={
            name: (FIGURES[name], Markup(inline_svg(svg, name, FIGURES[name].title))) for name, svg in drawn.items()
        },
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup((TEMPLATES / "table.js").read_text(encoding="utf-8")),
        shown=row,
        changed=changed_queries(board, row) if row else [],
        wanted=fmt.WANTED,
        stored=[(row.label, one) for row in board.rows for one in row.stored],
        indexes={name: _index(board, name) for name in board.datasets},
        versions=_versions(board),
        hashes=_hashes(board),
    )


def _columns(board: Leaderboard) -> list[dict[str, str]]:
    main, *others = board.experiment.measures
    titles = [("variant", "text"), (main, "number"), ("difference [95%]", "number change"), ("verdict", "text verdict")]
    titles += [("group", "text"), ("beats", "number"), *((measure, "number") for measure in others)]
    titles += [("parameters", "number"), ("multiply-adds", "number"), ("folds", "text"), ("training", "number")]
    title = column_title(board)
    titles += [(title, "number")] if title else []
    titles += [("encoded texts/s", "number"), ("index", "number"), ("learning rate", "number")]
    return [{"title": title, "kind": kind} for title, kind in titles]


def _cells(board: Leaderboard, row: Row) -> dict[str, Any]:
    """Return a row's cells: what is shown, and the value by which the column sorts (None sorts last)."""
    verdict, costs = row.verdict, row.costs
    main, *others = board.experiment.measures
    change = fmt.change(verdict) if verdict else ""
    letters = "" if row.kind == "reference" else fmt.group(board.letters.get(row.label, ()))
    beats = verdict.beats if verdict else None
    linearised = if_linearised(board, row)
    cells: list[tuple[str, float | str | None]] = [
        (fmt.mean_and_spread(row.mean(main), row.spread(main)), row.mean(main)),
        (change, verdict.difference if verdict else None),
        (fmt.verdict_cell(row), fmt.verdict_cell(row)),
        (letters, letters or None),
        ("" if beats is None else fmt.chance(beats), beats),
        *((fmt.mean_and_spread(row.mean(measure), None), row.mean(measure)) for measure in others),
    ]
    if costs is None:
        cells += [("", None)] * (8 if column_title(board) else 7)
    else:
        folds = "yes" if costs.folds else "no"
        cells += [
            (fmt.count(costs.parameters), costs.parameters),
            (fmt.count(costs.multiply_adds), costs.multiply_adds),
            (folds, folds),
            (fmt.seconds(costs.train_s), costs.train_s),
            *([(fmt.mean_and_spread(linearised, None), linearised)] if column_title(board) else []),
            ("" if costs.encode_per_s is None else fmt.count(costs.encode_per_s), costs.encode_per_s),
            ("" if costs.index_bytes is None else fmt.bytes_text(costs.index_bytes), costs.index_bytes),
            (fmt.rates(costs), costs.learning_rates[0] if costs.learning_rates else None),
        ]
    return {
        "label": row.label,
        "about": row.about,
        "verdict": fmt.verdict_cell(row),
        "kind": row.kind,
        "word": (verdict.word if verdict else row.kind).replace(" ", "-"),
        "cells": [{"text": text, "value": "" if value is None else value} for text, value in cells],
    }


def _breakable(label: str) -> Markup:
    """Let a long label break behind its brackets, commas and the like."""
    return Markup("<wbr>").join(re.findall(r"[^(,:/]*[(,:/]?", fmt.visible(label)))


def _index(board: Leaderboard, dataset: str) -> str:
    """Say how a data set was searched, every way that its evaluations name."""
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
