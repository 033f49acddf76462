"""The leaderboard as one HTML page that needs nothing else: no network, no other file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.report import figures
from eval.report import format as fmt
from eval.report.answer import answer, notes
from eval.report.table import Leaderboard, Row

__all__ = ["html_text"]

TEMPLATES = Path(__file__).parent / "templates"


def html_text(board: Leaderboard, drawn: Mapping[str, str]) -> str:
    """Return leaderboard.html.

    Args:
        board: The leaderboard.
        drawn: SVG of each figure that has something to show, by its name in ``figures.FIGURES``.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["fmt"] = fmt
    return environment.get_template("leaderboard.html.j2").render(
        board=board,
        experiment=board.experiment,
        answer=answer(board),
        notes=notes(board),
        columns=_columns(board),
        rows=[_cells(board, row) for row in (*board.rows, *board.references)],
        figures=[
            {"name": name, "caption": figures.FIGURES[name][0], "svg": _inline(name, svg)}
            for name, svg in drawn.items()
        ],
        style=_asset("style.css"),
        script=_asset("table.js"),
    )


def _asset(name: str) -> Markup:
    """Read one of our own files, which is markup and not text."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _inline(name: str, svg: str) -> Markup:
    """Take a figure into the page; matplotlib has escaped every label in it."""
    return Markup(figures.inline_svg(svg.encode("utf-8"), name, figures.FIGURES[name][0]))


def _columns(board: Leaderboard) -> list[dict[str, str]]:
    titles = [("variant", "text")]
    titles += [(measure, "number") for measure in board.experiment.measures]
    titles += [("difference [95%]", "number"), ("verdict", "text"), ("parameters", "number")]
    titles += [("multiply-adds per token", "number"), ("folds", "text"), ("training", "number")]
    return [{"title": title, "kind": kind} for title, kind in titles]


def _cells(board: Leaderboard, row: Row) -> dict[str, Any]:
    """Return a row's cells: what is shown, and the value by which the column sorts (None sorts last)."""
    verdict, costs = row.verdict, row.costs
    cells: list[tuple[str, float | str | None]] = [
        (fmt.mean_and_spread(row.mean(measure), row.spread(measure)), row.mean(measure))
        for measure in board.experiment.measures
    ]
    change = f"{fmt.difference(verdict.difference)} {fmt.interval(verdict.low, verdict.high)}" if verdict else ""
    cells += [
        (change, verdict.difference if verdict else None),
        (fmt.verdict_cell(row), fmt.verdict_cell(row)),
        (fmt.count(costs.parameters) if costs else "", costs.parameters if costs else None),
        (fmt.count(costs.multiply_adds) if costs else "", costs.multiply_adds if costs else None),
        (("yes" if costs.folds else "no") if costs else "", ("yes" if costs.folds else "no") if costs else None),
        (fmt.seconds(costs.train_s) if costs else "", costs.train_s if costs else None),
    ]
    return {
        "label": row.label,
        "about": row.about,
        "kind": row.kind,
        "word": (verdict.word if verdict else row.kind).replace(" ", "-"),
        "cells": [{"text": text, "value": "" if value is None else value} for text, value in cells],
    }
