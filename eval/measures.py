"""Measures of a run, by ir-measures: every query by itself, unrounded."""

import math
from collections.abc import Mapping, Sequence

from eval.runs import Qrels, Run
from experiment.measures import parse_measure

__all__ = ["mean_of", "measure_run"]


def measure_run(names: Sequence[str], qrels: Qrels, run: Run) -> dict[str, dict[str, float]]:
    """Compute measures of every judged query.

    The order of the run's documents is taken as it stands, scores do not matter: the libraries behind ir-measures
    differ in how they order documents of equal score, so they are given ranks in place of scores.

    Args:
        names: ir-measures expressions.
        qrels: Grades of the judged queries.
        run: What was found; queries without judgements are passed over.

    Returns:
        By name and query id, queries in the order of the qrels. A query for which nothing was found, or for which a
        measure is undefined, counts 0.

    Raises:
        ProjheadsError: If a measure is unknown.
    """
    import ir_measures

    measures = [parse_measure(name) for name in names]
    ranks = {
        query: {document: float(-rank) for rank, (document, _) in enumerate(run[query])}
        for query in qrels
        if run.get(query)
    }
    values = {measure: dict.fromkeys(qrels, 0.0) for measure in measures}
    for metric in ir_measures.iter_calc(measures, {query: dict(grades) for query, grades in qrels.items()}, ranks):
        if math.isfinite(metric.value):
            values[metric.measure][metric.query_id] = float(metric.value)
    return {name: values[measure] for name, measure in zip(names, measures, strict=True)}


def mean_of(values: Mapping[str, float]) -> float:
    """Average over queries."""
    return math.fsum(values.values()) / len(values)
