"""Measures of any run file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.measures import aggregate, measure_run
from eval.runs import read_qrels, read_run
from experiment.measure_names import parse_measure

__all__ = ["score_lines", "score_run"]


def score_run(run: Path, qrels: Path, measures: Sequence[str]) -> dict[str, Any]:
    """Measure a run.

    A judged query that the run lacks scores 0, and a query of the run without judgements is ignored.

    Returns:
        The value of each measure, and how many queries are judged, judged but missing, and not judged.

    Raises:
        ProjheadsError: If a file is malformed, or a measure is unknown or cannot be computed.
    """
    for name in measures:
        parse_measure(name)
    found, judged = read_run(run), read_qrels(qrels)
    values = measure_run(measures, judged, found)
    missing, unjudged = len(judged.keys() - found.keys()), len(found.keys() - judged.keys())
    return {
        "measures": {name: aggregate(name, values[name]) for name in measures},
        "queries": {"judged": len(judged), "missing": missing, "unjudged": unjudged},
    }


def score_lines(scored: dict[str, Any]) -> list[str]:
    """Write what ``score_run`` returns as lines, one per measure, with all digits."""
    judged, missing, unjudged = scored["queries"].values()
    return [
        *(f"{name}\t{value!r}" for name, value in scored["measures"].items()),
        f"queries\t{judged} judged, {missing} of them not in the run; {unjudged} in the run not judged",
    ]
