"""Collections that count as one data set, such as the twelve forums of CQADupStack, which BEIR averages.

Each is searched separately, and the score of the data set is the mean of the collections' means. All later code sees
one data set with the queries of all collections: the score of a query is weighted so that the mean over queries is the
mean of the means. For a collection with n of the N queries of k collections, the weight is N / (k n). The scatter of
such a mean is that of independent samples within the collections, or slightly larger.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.report.results import Evaluation
from experiment.disk.files import sha256_json
from experiment.disk.records import (
    DatasetFacts,
    EvaluationBytes,
    EvaluationRecord,
    EvaluationTimings,
    IndexFacts,
    StandIn,
    StorageEntry,
    TextCounts,
)

__all__ = ["GroupFacts", "group_members", "merge_groups", "query_weight"]


class GroupFacts(DatasetFacts):
    """A data set of several collections.

    Attributes:
        weights: What the scores of each collection's queries were multiplied by.
    """

    weights: dict[str, float]


def group_members(evaluations: Sequence[Mapping[str, Evaluation]]) -> dict[str, tuple[str, ...]]:
    """Return the names of each group's collections, in alphabetical order, from the evaluations of many trials."""
    found: dict[str, set[str]] = {}
    for one in evaluations:
        for name, evaluation in one.items():
            if evaluation.record.dataset.group:
                found.setdefault(evaluation.record.dataset.group, set()).add(name)
    return {group: tuple(sorted(names)) for group, names in found.items()}


def merge_groups(evaluations: Mapping[str, Evaluation], members: Mapping[str, Sequence[str]]) -> dict[str, Evaluation]:
    """Replace the evaluations of each group's collections by one of the group.

    Args:
        evaluations: One trial's evaluations by data set.
        members: Each group's collections; a group is left out if the trial lacks one of them.
    """
    grouped = {name for names in members.values() for name in names}
    merged = {name: evaluation for name, evaluation in evaluations.items() if name not in grouped}
    for group, names in members.items():
        if all(name in evaluations for name in names):
            parts = {name: evaluations[name] for name in names}
            record = _merge(group, {name: part.record for name, part in parts.items()})
            merged[group] = Evaluation(record, parts[names[0]].path, parts)
    return merged


def query_weight(dataset: DatasetFacts, query: str) -> float:
    """Return what the score of a query was multiplied by: 1 unless the data set has several collections."""
    return dataset.weights[query.partition("/")[0]] if isinstance(dataset, GroupFacts) else 1.0


def _merge(group: str, parts: Mapping[str, EvaluationRecord]) -> EvaluationRecord:
    records, first = parts.values(), next(iter(parts.values()))
    counts = {name: len(part.queries) for name, part in parts.items()}
    weights = {name: sum(counts.values()) / (len(parts) * count) for name, count in counts.items()}
    shared = [measure for measure in first.measures if all(measure in part.measures for part in records)]
    dataset = GroupFacts(
        name=group,
        source=", ".join(part.dataset.source for part in records),
        split=first.dataset.split,
        group=group,
        hash=sha256_json({name: part.dataset.hash for name, part in parts.items()}),
        documents=sum(part.dataset.documents for part in records),
        queries=sum(counts.values()),
        notes=_sum(part.dataset.notes for part in records),
        weights=weights,
    )
    return first.replace(
        dataset=dataset,
        index=min((part.index for part in records), key=_candidate_recall),
        measures={
            measure: _weighted({name: part.measures[measure] for name, part in parts.items()}, weights)
            for measure in shared
        },
        timings=EvaluationTimings(**_sum(dict(part.timings) for part in records)),
        bytes=EvaluationBytes(**_sum(dict(part.bytes) for part in records)),
        truncated=TextCounts(**_sum(dict(part.truncated) for part in records)),
        linearised=_linearised({name: part.linearised for name, part in parts.items()}, weights),
        storage=_stored(parts, weights),
    )


def _stored(parts: Mapping[str, EvaluationRecord], weights: Mapping[str, float]) -> dict[str, StorageEntry]:
    """Merge the forms that every collection was stored in; of the means, only the names count."""
    first = next(iter(parts.values()))
    return {
        form: entry.replace(
            index_bytes=sum(part.storage[form].index_bytes for part in parts.values()),
            per_query=_weighted({name: part.storage[form].per_query for name, part in parts.items()}, weights),
        )
        for form, entry in first.storage.items()
        if all(form in part.storage for part in parts.values())
    }


def _linearised(parts: Mapping[str, StandIn | None], weights: Mapping[str, float]) -> StandIn | None:
    """Merge the scores of the linear stand-ins; None unless every collection has one."""
    found = {name: part for name, part in parts.items() if part is not None}
    if len(found) < len(parts):
        return None
    first = next(iter(found.values()))
    measures = {
        measure: _weighted({name: part.measures[measure] for name, part in found.items()}, weights)
        for measure in first.measures
    }
    means = {measure: math.fsum(scores.values()) / len(scores) for measure, scores in measures.items()}
    return first.replace(measures=measures, means=means)


def _weighted(scores: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> dict[str, float]:
    """Join the scores of the collections' queries, each times its collection's weight."""
    return {f"{name}/{query}": weights[name] * score for name, one in scores.items() for query, score in one.items()}


def _sum(counts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for one in counts:
        total |= {name: total.get(name, 0) + count for name, count in one.items()}
    return total


def _candidate_recall(index: IndexFacts) -> float:
    """Return the share of an exact search's result that a search found; an exact one comes after all others."""
    return index.candidate_recall.value if index.candidate_recall else 2.0
