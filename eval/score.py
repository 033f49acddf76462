"""Measures of anybody's run file."""

from collections.abc import Sequence
from pathlib import Path

from eval.measures import mean_of, measure_run
from eval.runs import read_qrels, read_run
from experiment.config.measure_names import parse_measure

__all__ = ["score_run"]


def score_run(run: Path, qrels: Path, measures: Sequence[str]) -> list[str]:
    """Measure a run; return the lines to print, one a measure, with all digits.

    A judged query that the run does not have counts 0; how many there are is said, as is how many queries of the run
    have no judgement and so count nothing.

    Raises:
        ProjheadsError: If a file is broken or a measure is unknown.
    """
    for name in measures:
        parse_measure(name)
    found, judged = read_run(run), read_qrels(qrels)
    values = measure_run(measures, judged, found)
    missing, unjudged = len(judged.keys() - found.keys()), len(found.keys() - judged.keys())
    lines = [f"{name}\t{mean_of(values[name])!r}" for name in measures]
    lines.append(f"queries\t{len(judged)} judged, {missing} of them not in the run; {unjudged} in the run not judged")
    return lines
