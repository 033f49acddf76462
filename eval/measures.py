"""Measures of a run, by ir-measures: every query by itself, unrounded."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.runs import Qrels, Run
from experiment.config.measure_names import computable, parse_measure
from projheads.errors import ProjheadsError

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
        ProjheadsError: If a measure is unknown, or cannot be computed of these queries.
    """
    import ir_measures

    places = {query: str(place) for place, query in enumerate(qrels, start=1)}
    # Some libraries take whole numbers alone as ids of queries, and read files that white space parts into columns.
    documents: dict[str, str] = {}

    def number(name: str) -> str:
        return documents.setdefault(name, f"d{len(documents)}")

    grades = {
        places[query]: {number(document): grade for document, grade in judged.items()}
        for query, judged in qrels.items()
    }
    ranks = {
        places[query]: {number(document): float(-rank) for rank, (document, _) in enumerate(run[query])}
        for query in qrels
        if run.get(query)
    }
    highest = max((grade for judged in qrels.values() for grade in judged.values()), default=0)
    computed = {name: computable(parse_measure(name), highest) for name in names}
    found: dict[Any, dict[str, float]] = {}
    for name, measure in computed.items():
        try:
            metrics = list(ir_measures.iter_calc([measure], grades, ranks))
        except ArithmeticError as error:
            raise ProjheadsError(f"measure {name}: not defined for one of these queries ({error})") from None
        found[measure] = {metric.query_id: float(metric.value) for metric in metrics if math.isfinite(metric.value)}
    return {
        name: {query: found[measure].get(place, 0.0) for query, place in places.items()}
        for name, measure in computed.items()
    }


def mean_of(values: Mapping[str, float]) -> float:
    """Average over queries."""
    return math.fsum(values.values()) / len(values)
