"""Collections that count as one data set: the twelve forums of CQADupStack, as BEIR averages them.

Each is searched alone, and the data set's score is the mean of the collections' means. To everything that comes after
it is one data set with the queries of all of them: a query's score is weighted so that the mean over queries is the
mean of the means. Where the collection P has n of the N queries and there are k collections, the weight is N / (k n).
The scatter of such a mean comes out as that of independent samples within the collections, or a little larger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eval.report.results import Evaluation
from experiment.disk.files import sha256_json

__all__ = ["group_members", "merge_groups", "query_weight"]


def group_members(evaluations: Sequence[Mapping[str, Evaluation]]) -> dict[str, tuple[str, ...]]:
    """Return the names of each group's collections, in alphabetical order, from the evaluations of many trials."""
    found: dict[str, set[str]] = {}
    for one in evaluations:
        for name, evaluation in one.items():
            if evaluation.dataset.get("group"):
                found.setdefault(str(evaluation.dataset["group"]), set()).add(name)
    return {group: tuple(sorted(names)) for group, names in found.items()}


def merge_groups(evaluations: Mapping[str, Evaluation], members: Mapping[str, Sequence[str]]) -> dict[str, Evaluation]:
    """Replace the evaluations of each group's collections by one of the group.

    Args:
        evaluations: One trial's evaluations by data set.
        members: Each group's collections; a group of which this trial lacks one is left out.
    """
    grouped = {name for names in members.values() for name in names}
    merged = {name: evaluation for name, evaluation in evaluations.items() if name not in grouped}
    for group, names in members.items():
        if all(name in evaluations for name in names):
            merged[group] = _merge(group, {name: evaluations[name] for name in names})
    return merged


def query_weight(dataset: Mapping[str, Any], query: str) -> float:
    """Return by what the score of a query of a merged data set was multiplied; 1 for every other data set."""
    return float(dataset.get("weights", {}).get(query.partition("/")[0], 1.0))


def _merge(group: str, parts: Mapping[str, Evaluation]) -> Evaluation:
    first = next(iter(parts.values()))
    counts = {name: len(next(iter(part.measures.values()))) for name, part in parts.items()}
    weights = {name: sum(counts.values()) / (len(parts) * count) for name, count in counts.items()}
    shared = [measure for measure in first.measures if all(measure in part.measures for part in parts.values())]
    return replace(
        first,
        dataset={
            "name": group,
            "source": ", ".join(str(part.dataset["source"]) for part in parts.values()),
            "split": first.dataset.get("split"),
            "group": group,
            "hash": sha256_json({name: part.dataset["hash"] for name, part in parts.items()}),
            "documents": sum(part.dataset.get("documents", 0) for part in parts.values()),
            "queries": sum(counts.values()),
            "notes": _sum([part.dataset.get("notes", {}) for part in parts.values()]),
            "weights": weights,
        },
        index=_least_exact([part.index for part in parts.values()]),
        measures={
            measure: {
                f"{name}/{query}": weights[name] * score
                for name, part in parts.items()
                for query, score in part.measures[measure].items()
            }
            for measure in shared
        },
        timings=_sum([part.timings for part in parts.values()]),
        bytes=_sum([part.bytes for part in parts.values()]),
        truncated=_sum([part.truncated for part in parts.values()]),
        storage=_stored(parts, weights),
        parts=dict(parts),
    )


def _stored(parts: Mapping[str, Evaluation], weights: Mapping[str, float]) -> dict[str, Any]:
    """Put together the forms that every collection was stored in; the means of the first one stand for their names."""
    first = next(iter(parts.values()))
    return {
        form: {
            "bytes_per_vector": entry["bytes_per_vector"],
            "index_bytes": sum(part.storage[form]["index_bytes"] for part in parts.values()),
            "measures": entry["measures"],
            "per_query": {
                f"{name}/{query}": weights[name] * score
                for name, part in parts.items()
                for query, score in part.storage[form]["per_query"].items()
            },
        }
        for form, entry in first.storage.items()
        if all(form in part.storage for part in parts.values())
    }


def _sum(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for one in counts for name in one)
    return {name: sum(one.get(name, 0) for one in counts) for name in names}


def _least_exact(indexes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the index that found the smallest share of what an exact search finds."""
    return min(indexes, key=lambda index: (index.get("candidate_recall") or {"value": 2.0})["value"])
