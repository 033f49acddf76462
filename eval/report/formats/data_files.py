"""The leaderboard for programs: JSON with everything, CSV with one line per row. Numbers are unrounded, from 0 to 1."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from eval.report import format as fmt
from eval.report.answer import answer, notes
from eval.report.certainty import confirmation
from eval.report.chosen import sweeps_of
from eval.report.columns import board_columns
from eval.report.linearised import if_linearised
from eval.report.storage import StoredForm
from eval.report.table import Leaderboard, Row
from eval.verdicts import Verdict

__all__ = ["LEADERBOARD_SCHEMA", "csv_of", "csv_text", "json_text"]

LEADERBOARD_SCHEMA = 1
"""Version of leaderboard.json; it rises when a key changes its meaning or is removed."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a text begins that a spreadsheet would compute."""


def json_text(board: Leaderboard) -> str:
    """Return leaderboard.json: the table with every number as it was computed."""
    columns = board_columns(board, "json")
    value = {
        "schema_version": LEADERBOARD_SCHEMA,
        "unit": "scores and differences are between 0 and 1; the other formats show them times 100, in points",
        "experiment": board.experiment.name,
        "description": board.experiment.description,
        "answer": answer(board),
        "notes": notes(board),
        "measure": board.measure,
        "measures": list(board.experiment.measures),
        "baseline": board.baseline,
        "datasets": [dataset.model_dump() for dataset in board.datasets.values()],
        "columns": {column.name: column.column.explanation for column in columns},
        "rows": [_row_value(board, row) for row in board.rows],
        "resolution": board.resolution,
        "winner": dataclasses.asdict(board.winner) if board.winner else None,
        "winner_on_these_queries": dataclasses.asdict(board.winner_here) if board.winner_here else None,
        "confirm": confirmation(board) or None,
        "astray": [dataclasses.asdict(one) for one in board.astray],
        "without_astray": {label: _verdict_value(verdict) for label, verdict in board.without.items()},
        "factors": [dataclasses.asdict(one) for one in board.factors],
        "at_shared_rate": {label: _verdict_value(verdict) for label, verdict in board.at_shared_rate.items()},
        "shared_rate": board.experiment.shared_rate,
        "own_rates": {
            label: {
                "seeds": list(one.seeds),
                "mean_at_shared_rate": one.mean,
                "means_at_shared_rate": dict(one.shared),
                "own_against_shared": _verdict_value(one.change) if one.change else None,
            }
            for label, one in board.own_rates.items()
        },
        "shares": dataclasses.asdict(board.shares) if board.shares else None,
        "sweep_shares": dataclasses.asdict(board.sweep) if board.sweep else None,
        "references": [_row_value(board, row) for row in board.references],
    }
    return fmt.escaped(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def csv_text(board: Leaderboard) -> str:
    """Return leaderboard.csv: one line per row, references last.

    A text that a spreadsheet would compute, such as ``=1+1``, begins with an apostrophe, which spreadsheets hide.
    """
    columns = board_columns(board, "csv")
    rows = [[column.value(row) for column in columns] for row in (*board.rows, *board.references)]
    return csv_of([column.name for column in columns], rows)


def csv_of(heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV, with texts that a spreadsheet would compute made inert."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_inert(value) for value in row] for row in (heading, *rows))
    return text.getvalue()


def _inert(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = fmt.visible(value)
    return f"'{text}" if text.startswith(FORMULA) or text.lstrip().startswith(FORMULA) else text


def _row_value(board: Leaderboard, row: Row) -> dict[str, Any]:
    """Return the cells of a row, and what does not fit in cells: scores by seed, and records."""
    measures = board.experiment.measures
    return {
        "label": row.label,
        "kind": row.kind,
        "about": row.about,
        "seeds": list(row.seeds),
        "mean": {measure: row.mean(measure) for measure in measures},
        "spread": {measure: row.spread(measure) for measure in measures},
        "scores": {measure: {name: list(one) for name, one in row.scores[measure].items()} for measure in measures},
        "verdict": _verdict_value(row.verdict) if row.verdict else None,
        "dataset_verdicts": {name: _verdict_value(verdict) for name, verdict in row.dataset_verdicts.items()},
        "costs": dataclasses.asdict(row.costs) if row.costs else None,
        "sweep": _swept(board, row),
        "linearised": if_linearised(board, row),
        "groups": list(board.letters.get(row.label, ())) if row.kind != "reference" else [],
        "storage": [_stored_value(board, row, one) for one in row.stored],
        "failures": [{"seed": seed, "reason": reason} for seed, reason in row.failures],
        "cells": {column.name: column.value(row) for column in board_columns(board, "json")},
    }


def _swept(board: Leaderboard, row: Row) -> list[dict[str, Any]]:
    """Return the points of a row's sweep, each with the score of every swept seed; none without a sweep."""
    sweep = sweeps_of(board.experiment.trials).get(row.label)
    return [{"values": point.values, "scores": point.seeds} for point in sweep.points] if sweep else []


def _stored_value(board: Leaderboard, row: Row, one: StoredForm) -> dict[str, Any]:
    """Return what a form costs a row, and how that compares with what it costs the baseline."""
    verdict = board.losses.get(one.form, {}).get(row.label)
    value = {field.name: getattr(one, field.name) for field in dataclasses.fields(one) if field.name != "changes"}
    return value | {"against_baseline": dataclasses.asdict(verdict.new_queries) if verdict else None}


def _verdict_value(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict with the facts that it is quoted by: the difference and the word for new queries."""
    quoted = {"difference": verdict.difference, "word": verdict.word, "smallest_shown": verdict.smallest_shown}
    return quoted | dataclasses.asdict(verdict)
