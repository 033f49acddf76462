"""The leaderboard for programs: JSON with everything, CSV with one line a row. Numbers are unrounded, from 0 to 1."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

from eval.report.answer import answer, notes
from eval.report.linearised import if_linearised
from eval.report.table import Leaderboard, Row
from eval.verdicts import Verdict

__all__ = ["LEADERBOARD_SCHEMA", "csv_text", "json_value"]

LEADERBOARD_SCHEMA = 1
"""Version of leaderboard.json; it rises when a key changes its meaning or goes away."""


def json_value(board: Leaderboard) -> dict[str, Any]:
    """Return leaderboard.json: the table with every number as it was computed."""
    return {
        "schema_version": LEADERBOARD_SCHEMA,
        "unit": "scores and differences lie between 0 and 1; the other formats show them times 100, as points",
        "experiment": board.experiment.name,
        "description": board.experiment.description,
        "answer": answer(board),
        "notes": notes(board),
        "measure": board.measure,
        "measures": list(board.experiment.measures),
        "baseline": board.baseline,
        "datasets": [dataset.model_dump() for dataset in board.datasets.values()],
        "rows": [_row_value(board, row) for row in board.rows],
        "shares": dataclasses.asdict(board.shares) if board.shares else None,
        "sweep_shares": dataclasses.asdict(board.sweep) if board.sweep else None,
        "references": [_row_value(board, row) for row in board.references],
    }


def csv_text(board: Leaderboard) -> str:
    """Return leaderboard.csv: one line a row, references last."""
    lines = [_csv_line(board, row) for row in (*board.rows, *board.references)]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _row_value(board: Leaderboard, row: Row) -> dict[str, Any]:
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
        "linearised": if_linearised(board, row),
        "groups": list(board.letters.get(row.label, ())) if row.kind != "reference" else [],
        "storage": [dataclasses.asdict(one) for one in row.stored],
        "failures": [{"seed": seed, "reason": reason} for seed, reason in row.failures],
    }


def _verdict_value(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict with the two facts that it is quoted by, the difference and the word for new queries."""
    quoted = {"difference": verdict.difference, "word": verdict.word, "smallest_shown": verdict.smallest_shown}
    return quoted | dataclasses.asdict(verdict)


def _csv_line(board: Leaderboard, row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {"label": row.label, "kind": row.kind, "seeds": len(row.seeds), "missing": len(row.failures)}
    for measure in board.experiment.measures:
        line[measure] = row.mean(measure)
        line[f"{measure} spread"] = row.spread(measure)
    if len(board.datasets) > 1:
        line |= {f"{board.measure} {name}": row.mean(board.measure, name) for name in board.datasets}
    line |= _fields(row.verdict, ("difference", "smallest_shown", "beats"))
    line |= _fields(row.verdict and row.verdict.new_queries, ("low", "high", "p_value", "adjusted_p"))
    line["verdict"] = row.verdict.word if row.verdict else None
    line["groups"] = " ".join(board.letters.get(row.label, ())) if row.kind != "reference" else None
    line |= _fields(row.costs, ("parameters", "multiply_adds", "folds", "train_s", "encode_per_s", "index_bytes"))
    line[f"{board.measure} if linearised"] = if_linearised(board, row)
    line["learning_rates"] = " ".join(map(repr, row.costs.learning_rates)) if row.costs else None
    line["chosen"] = row.costs.chosen.text() if row.costs and row.costs.chosen else None
    for form in dict.fromkeys(one.form for other in board.rows for one in other.stored):
        stored = next((one for one in row.stored if one.form == form), None)
        line[f"{board.measure} {form}"] = stored.score if stored else None
        line[f"index_bytes {form}"] = stored.index_bytes if stored else None
    return line


def _fields(value: object | None, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(value, name, None) for name in names}
