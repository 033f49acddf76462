"""Measures of a run, computed by ir-measures: unrounded, query by query."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.runs import Qrels, Run
from experiment.measure_names import computable, parse_measure
from projheads.errors import ProjheadsError

__all__ = ["aggregate", "check_grades", "measure_run"]

HIGHEST_GRADE = 100_000
"""Grades are at most this, or minus this: trec_eval keeps an array with an entry for every grade up to the highest."""

HIGHEST_EXPONENT = 20
"""Highest grade for gains of 2^grade - 1, and as a power of two the highest gain: trec_eval keeps an array with an
entry for every number up to the highest gain, which takes 8 MB here and would take 8 GB for 2^30."""


def check_grades(names: Sequence[str], qrels: Qrels) -> None:
    """Check that the libraries can compute measures from these grades.

    Raises:
        ProjheadsError: If a grade or a gain is too large for them, which they would not report.
    """
    measures = {name: parse_measure(name) for name in names}
    limits = {"": HIGHEST_GRADE}
    limits |= {name: HIGHEST_EXPONENT for name, measure in measures.items() if measure.params.get("dcg") == "exp-log2"}
    name = min(limits, key=limits.__getitem__)
    for query, judged in qrels.items():
        for document, grade in judged.items():
            if grade > limits[name] or grade < -HIGHEST_GRADE:
                least = f"at least {-HIGHEST_GRADE} and at most" if not name else "at most"
                what = f"measure {name}, whose gains are 2^grade - 1, needs grades of" if name else "grades must be"
                raise ProjheadsError(
                    f'query "{query}": the grade of document "{document}" is {grade}; {what} {least} {limits[name]}'
                )
    for name, measure in measures.items():
        if any(gain > 2**HIGHEST_EXPONENT for gain in measure.params.get("gains", {}).values()):
            raise ProjheadsError(f"measure {name}: gains must be at most 2^{HIGHEST_EXPONENT}")


def measure_run(names: Sequence[str], qrels: Qrels, run: Run) -> dict[str, dict[str, float]]:
    """Compute measures for every judged query.

    The run's order counts, its scores do not: the libraries that ir-measures calls differ in how they order documents
    of equal score, so they get ranks instead of scores.

    Args:
        names: ir-measures expressions.
        qrels: Grades of the judged queries.
        run: What was found; queries without judgements are ignored.

    Returns:
        By name and query id, queries in the order of the qrels. A query for which nothing was found, or for which a
        measure is undefined, counts 0.

    Raises:
        ProjheadsError: If a measure is unknown, or cannot be computed for these queries and grades.
    """
    import ir_measures

    check_grades(names, qrels)
    places = {query: str(place) for place, query in enumerate(qrels, start=1)}
    # Some libraries accept only whole numbers as query ids, and read files whose columns are split at white space.
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


def aggregate(name: str, values: Mapping[str, float]) -> float:
    """Aggregate the scores of queries as ir-measures does: sum counts such as NumRet, average everything else."""
    from ir_measures.measures import SumAgg

    total = math.fsum(values.values())
    return total if isinstance(parse_measure(name).aggregator(), SumAgg) else total / len(values)
