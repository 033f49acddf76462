"""The record of an evaluation: how it is made, when it counts as finished, and how stored forms are added to it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

from eval.embed import Encoded
from eval.measures import aggregate
from eval.runs import Run
from eval.sample import SAMPLE, is_sampled
from eval.search.choice import Answer
from eval.search.compressed import STORAGE_VERSION
from eval.search.fast import FAST_VERSION
from eval.search_task import SearchTask
from eval.subjects import Subject
from experiment.config import EvalConfig, EvalDatasetRef
from experiment.config.search_forms import SearchForm
from experiment.config.storage_forms import StorageForm
from experiment.disk.files import sha256_json, versions
from experiment.disk.records import (
    DatasetFacts,
    EvaluationBytes,
    EvaluationRecord,
    EvaluationTimings,
    StandIn,
    StorageEntry,
    TextCounts,
)

__all__ = [
    "Form",
    "evaluation_key",
    "evaluation_record",
    "is_finished",
    "missing_forms",
    "recall_of",
    "regroup",
    "storage_entry",
    "with_storage",
]

Form: TypeAlias = StorageForm | SearchForm
"""What a model is tried in besides the evaluation itself: a form of storage, or a further search."""

EVALUATION_VERSION = 4
"""Raised when a change to the code changes what an evaluation computes; older evaluations are then repeated."""

STAND_IN_VERSION = 1
"""The same for the linear stand-in of a non-linear head."""

PACKAGES = {
    "projheads": "projheads",
    "torch": "torch",
    "faiss": "faiss-cpu",
    "faiss-gpu": "faiss-gpu",
    "fast-plaid": "fast-plaid",
    "ir-measures": "ir-measures",
    "pytrec-eval-terrier": "pytrec-eval-terrier",
    "bm25s": "bm25s",
    "pylate": "pylate",
    "sentence-transformers": "sentence-transformers",
}


def evaluation_key(subject: Subject, task: SearchTask, precision: str, *, streamed: bool = False) -> str:
    """Hash everything that an evaluation's result depends on.

    Args:
        subject: What is evaluated.
        task: The data set.
        precision: Arithmetic of backbone and head.
        streamed: Whether the corpus is streamed: the search is exact, and the linear stand-in of a head is fitted on a
            sample of a large corpus.
    """
    settings = task.settings
    shared = {
        "version": EVALUATION_VERSION,
        "subject": [subject.kind, subject.fingerprint],
        "data": task.collection.hash,
        "excluded": sorted(task.excluded),
        "depth": settings.depth,
        "measures": list(settings.measures),
    }
    sampled = streamed and is_sampled(len(task.documents))
    if subject.kind == "bm25":
        return sha256_json(shared)
    if settings.linearise and subject.has_stand_in:
        shared["linearised"] = [STAND_IN_VERSION, SAMPLE] if sampled else STAND_IN_VERSION
    index: list[Any] = ["exact" if streamed else settings.index]
    if index != ["exact"]:
        index += [settings.nprobe, settings.candidates_per_token, settings.max_candidates]
    if settings.vector_dtype != "float16":
        shared["vectors"] = settings.vector_dtype
    return sha256_json(shared | {"index": index, "precision": precision})


def is_finished(subject: Subject, dataset: str, keys: Collection[str]) -> bool:
    """Return whether an evaluation with one of these keys is on disk, complete.

    Raises:
        ProjheadsError: If its record is damaged.
    """
    record = EvaluationRecord.find(subject.folder.eval_json(dataset))
    return record is not None and record.key in keys and subject.folder.eval_run(dataset).exists()


def missing_forms(record: EvaluationRecord, forms: Sequence[Form], settings: EvalConfig) -> list[Form]:
    """Return the forms that an evaluation lacks or that were computed differently."""

    def is_there(form: Form) -> bool:
        entry = record.storage.get(form.name)
        return entry is not None and entry.key == _form_key(record.key, form, settings, entry.sample)

    return [form for form in forms if not is_there(form)]


def storage_entry(
    record: EvaluationRecord,
    form: Form,
    settings: EvalConfig,
    measures: Mapping[str, dict[str, float]],
    *,
    bytes_per_vector: int,
    index_bytes: int,
    recall: float | None,
    sample: int | None = None,
) -> StorageEntry:
    """Make an entry of one form.

    Args:
        record: The evaluation that it belongs to.
        form: The form.
        settings: How the evaluation searches.
        measures: Scores by measure and query id; those of the first measure are kept.
        bytes_per_vector: Bytes of a document's token vector.
        index_bytes: Bytes of all documents' codes, and of what is needed to read them.
        recall: What ``recall_of`` returns.
        sample: Documents that the form was fitted on; None for all.
    """
    return StorageEntry(
        key=_form_key(record.key, form, settings, sample),
        bytes_per_vector=bytes_per_vector,
        index_bytes=index_bytes,
        measures={name: aggregate(name, values) for name, values in measures.items()},
        per_query=next(iter(measures.values())),
        recall=recall,
        search=isinstance(form, SearchForm),
        sample=sample,
    )


def recall_of(record: EvaluationRecord, exact: Run, found: Run) -> float | None:
    """Return the share of an exact search's documents that a run has too, mean over queries.

    Args:
        record: The evaluation that the exact run belongs to; None is returned if its search was approximate.
        exact: Its run.
        found: The run.
    """
    shares = [
        len(wanted & {name for name, _ in found.get(query, [])}) / len(wanted)
        for query, ranked in exact.items()
        if (wanted := {name for name, _ in ranked})
    ]
    return sum(shares) / len(shares) if shares and record.index.kind == "exact" else None


def with_storage(
    record: EvaluationRecord, entries: Mapping[str, StorageEntry], forms: Sequence[Form]
) -> EvaluationRecord:
    """Add entries of forms to an evaluation, in the order of the configuration, other forms last."""
    found = {**record.storage, **entries}
    order = [name for form in forms for name in form.entries if name in found]
    return record.replace(storage={name: found[name] for name in dict.fromkeys([*order, *found])})


def _form_key(key: str, form: Form, settings: EvalConfig, sample: int | None) -> str:
    if isinstance(form, StorageForm):
        return sha256_json([STORAGE_VERSION, key, form.name, *([] if sample is None else [sample])])
    return sha256_json([FAST_VERSION, key, form.name, settings.max_candidates, settings.candidates_per_token])


def regroup(subject: Subject, dataset: EvalDatasetRef) -> None:
    """Update an existing evaluation whose data set joined or left a group since."""
    path = subject.folder.eval_json(dataset.name)
    record = EvaluationRecord.find(path)
    if record is not None and record.dataset.group != dataset.group:
        record.replace(dataset=record.dataset.replace(group=dataset.group)).write(path)


def evaluation_record(
    key: str,
    task: SearchTask,
    answer: Answer,
    measures: dict[str, dict[str, float]],
    encoded: Encoded | None,
    linearised: StandIn | None = None,
) -> EvaluationRecord:
    """Make the record of an evaluation.

    Args:
        key: Its ``evaluation_key``.
        task: The data set.
        answer: What the search found.
        measures: Scores by measure and query id.
        encoded: What encoding the texts took; None for BM25.
        linearised: The linear stand-in of a non-linear head; None if there is none.
    """
    dataset, collection = task.dataset, task.collection
    encoded = encoded or Encoded(0.0, (0, 0), 0)
    return EvaluationRecord(
        key=key,
        dataset=DatasetFacts(
            name=dataset.name,
            source=dataset.source,
            split=dataset.split,
            group=dataset.group,
            hash=collection.hash,
            documents=len(collection.corpus),
            queries=len(collection.qrels),
            notes=task.notes,
        ),
        index=answer.index,
        measures=measures,
        means={name: aggregate(name, values) for name, values in measures.items()},
        timings=EvaluationTimings(encode_s=encoded.seconds, index_s=answer.index_s, search_s=answer.search_s),
        bytes=EvaluationBytes(token_vectors=encoded.document_bytes, index=answer.index_bytes),
        versions=versions(PACKAGES),
        truncated=TextCounts(queries=encoded.truncated[0], documents=encoded.truncated[1]),
        linearised=linearised,
    )
