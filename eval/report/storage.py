"""Storage against quality: what each form of storage and each further search costs, in bytes and in the measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.report.judged import points_of
from eval.report.results import Trial
from eval.verdicts import Scores, Verdict, judge
from eval.verdicts.variance import paired_difference
from experiment.disk.records import StorageEntry

__all__ = ["StoredForm", "judge_losses", "stored_forms"]


NORMAL_95 = 1.959964
"""Normal value that 95% of draws do not exceed in size."""


@dataclass(frozen=True)
class StoredForm:
    """One form of storage, or one further search, of one variant, over all data sets.

    Attributes:
        form: Its name: fp16, int8, pq16, fde, ...
        bytes_per_vector: Bytes of one token vector; of a document's one vector for a fixed-dimensional encoding.
        index_bytes: Bytes of all vectors and of what is needed to read or search them, mean over seeds.
        score: The measure, mean over data sets and seeds.
        change: Difference from the score of the same trials without it.
        interval: 95% interval of ``change``, paired by query and seed; None with one seed.
        recall: Share of what the search without it found that is found with it, mean over data sets and seeds; None if
            unknown.
        search: Whether it is a further search.
        changes: The change of each seed and query.
    """

    form: str
    bytes_per_vector: float
    index_bytes: int
    score: float
    change: float
    interval: tuple[float, float] | None
    recall: float | None
    search: bool
    changes: Scores


def stored_forms(
    trials: Sequence[Trial], measure: str, plain: Scores, queries: Mapping[str, Sequence[str]]
) -> tuple[StoredForm, ...]:
    """Return the forms in which every trial of a variant was scored on every data set, the largest first.

    Args:
        trials: The variant's trials.
        measure: The measure that verdicts are about; forms that were not scored with it are left out.
        plain: Their scores without a form of storage, in the same order.
        queries: The ids of each data set's judged queries, in the order of ``plain``.
    """
    evaluations = [[trial.evaluations[name].record for name in queries] for trial in trials]
    scored = [_scored(one.storage, measure) for row in evaluations for one in row]
    common = [form for form in scored[0] if all(form in one for one in scored)]
    found = [
        _stored_form(form, [[one.storage[form] for one in row] for row in evaluations], plain, queries)
        for form in common
    ]
    return tuple(sorted(found, key=lambda one: -one.index_bytes))


def _scored(storage: Mapping[str, StorageEntry], measure: str) -> list[str]:
    """Return the forms whose scores per query, which are those of the first measure, are of this measure."""
    return [form for form, entry in storage.items() if next(iter(entry.measures), None) == measure]


def _stored_form(
    form: str, entries: Sequence[Sequence[StorageEntry]], plain: Scores, queries: Mapping[str, Sequence[str]]
) -> StoredForm:
    tables = tuple(
        np.array([[row[place].per_query[query] for query in ids] for row in entries])
        for place, ids in enumerate(queries.values())
    )
    change = paired_difference(Scores(plain.seeds, tables), plain)
    half = change.half_width(NORMAL_95)
    recalls = [entry.recall for row in entries for entry in row if entry.recall is not None]
    return StoredForm(
        form=form,
        bytes_per_vector=float(np.mean([entry.bytes_per_vector for row in entries for entry in row])),
        index_bytes=round(float(np.mean([sum(entry.index_bytes for entry in row) for row in entries]))),
        score=float(np.mean(Scores(plain.seeds, tables).means())),
        change=change.mean,
        interval=(change.mean - half, change.mean + half) if len(plain.seeds) > 1 else None,
        recall=float(np.mean(recalls)) if len(recalls) == sum(map(len, entries)) else None,
        search=entries[0][0].search,
        changes=Scores(plain.seeds, tuple(a - b for a, b in zip(tables, plain.tables, strict=True)), plain.start_group),
    )


def judge_losses(
    stored: Mapping[str, Sequence[StoredForm]], baselines: Mapping[str, str]
) -> dict[str, dict[str, Verdict]]:
    """Compare each row's change by each form with that of its baseline.

    Args:
        stored: The forms of each row.
        baselines: The baseline of each row.

    Returns:
        For each form a verdict of each row but the baselines, corrected for all rows and all forms: ``worse`` means
        that the row loses more than its baseline.
    """
    changes: dict[str, dict[str, StoredForm]] = {}
    for label, forms in stored.items():
        for one in forms:
            changes.setdefault(one.form, {})[label] = one
    groups = [
        (form, baseline, group)
        for form, rows in changes.items()
        for baseline, group in points_of({label: one.changes for label, one in rows.items()}, baselines).items()
    ]
    found: dict[str, dict[str, Verdict]] = {}
    for form, baseline, group in groups:
        found.setdefault(form, {}).update(judge(group, baseline, families=len(groups)))
    return found
