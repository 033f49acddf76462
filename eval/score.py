"""Measures of any run file."""

from collections.abc import Sequence
from pathlib import Path

from eval.measures import aggregate, measure_run
from eval.runs import read_qrels, read_run
from experiment.measure_names import parse_measure

__all__ = ["score_run"]


def score_run(run: Path, qrels: Path, measures: Sequence[str]) -> list[str]:
    """Measure a run; return the lines to print, one per measure, with all digits.

    A judged query that the run lacks scores 0, and a query of the run without judgements is ignored; the last line
    says how many there are of each.

    Raises:
        ProjheadsError: If a file is malformed, or a measure is unknown or cannot be computed.
    """
    for name in measures:
        parse_measure(name)
    found, judged = read_run(run), read_qrels(qrels)
    values = measure_run(measures, judged, found)
    missing, unjudged = len(judged.keys() - found.keys()), len(found.keys() - judged.keys())
    lines = [f"{name}\t{aggregate(name, values[name])!r}" for name in measures]
    lines.append(f"queries\t{len(judged)} judged, {missing} of them not in the run; {unjudged} in the run not judged")
    return lines
