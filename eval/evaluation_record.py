"""The record of an evaluation: how it is made, when it counts as finished, and how stored forms are added to it."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.embed import Encoded
from eval.measures import aggregate
from eval.search.choice import Answer
from eval.search.compressed import STORAGE_VERSION
from eval.search_task import SearchTask
from eval.subjects import Subject
from experiment.config import EvalDatasetRef
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
    "evaluation_key",
    "evaluation_record",
    "is_finished",
    "missing_forms",
    "regroup",
    "storage_entry",
    "with_storage",
]

EVALUATION_VERSION = 4
"""Raised when a change to the code changes what an evaluation computes; older evaluations are then repeated."""

STAND_IN_VERSION = 1
"""The same for the linear stand-in of a non-linear head."""

PACKAGES = {
    "projheads": "projheads",
    "torch": "torch",
    "faiss": "faiss-cpu",
    "faiss-gpu": "faiss-gpu",
    "ir-measures": "ir-measures",
    "pytrec-eval-terrier": "pytrec-eval-terrier",
    "bm25s": "bm25s",
    "pylate": "pylate",
    "sentence-transformers": "sentence-transformers",
}


def evaluation_key(subject: Subject, task: SearchTask, precision: str) -> str:
    """Hash everything that an evaluation's result depends on."""
    settings = task.settings
    shared = {
        "version": EVALUATION_VERSION,
        "subject": [subject.kind, subject.fingerprint],
        "data": task.collection.hash,
        "excluded": sorted(task.excluded),
        "depth": settings.depth,
        "measures": list(settings.measures),
    }
    if subject.kind == "bm25":
        return sha256_json(shared)
    if settings.linearise and subject.has_stand_in:
        shared["linearised"] = STAND_IN_VERSION
    index: list[Any] = [settings.index]
    if settings.index != "exact":
        index += [settings.nprobe, settings.candidates_per_token, settings.max_candidates]
    if settings.vector_dtype != "float16":
        shared["vectors"] = settings.vector_dtype
    return sha256_json(shared | {"index": index, "precision": precision})


def is_finished(subject: Subject, dataset: str, key: str) -> bool:
    """Return whether exactly this evaluation is on disk, complete.

    Raises:
        ProjheadsError: If its record is damaged.
    """
    record = EvaluationRecord.find(subject.folder.eval_json(dataset))
    return record is not None and record.key == key and subject.folder.eval_run(dataset).exists()


def missing_forms(record: EvaluationRecord, forms: Sequence[StorageForm]) -> list[StorageForm]:
    """Return the forms of storage that an evaluation lacks or that were computed differently."""
    found = {(name, entry.key) for name, entry in record.storage.items()}
    return [form for form in forms if (form.name, _storage_key(record.key, form)) not in found]


def storage_entry(
    record: EvaluationRecord,
    form: StorageForm,
    measures: Mapping[str, dict[str, float]],
    bytes_per_vector: int,
    index_bytes: int,
) -> StorageEntry:
    """Make the entry of one form of storage.

    Args:
        record: The evaluation that it belongs to.
        form: The form.
        measures: Scores by measure and query id; those of the first measure are kept.
        bytes_per_vector: Bytes of a document's token vector.
        index_bytes: Bytes of all documents' codes, and of what is needed to read them.
    """
    return StorageEntry(
        key=_storage_key(record.key, form),
        bytes_per_vector=bytes_per_vector,
        index_bytes=index_bytes,
        measures={name: aggregate(name, values) for name, values in measures.items()},
        per_query=next(iter(measures.values())),
    )


def with_storage(
    record: EvaluationRecord, entries: Mapping[str, StorageEntry], forms: Sequence[StorageForm]
) -> EvaluationRecord:
    """Add entries of stored forms to an evaluation, in the order of the configuration, other forms last."""
    found = {**record.storage, **entries}
    order = [form.name for form in forms if form.name in found]
    return record.replace(storage={name: found[name] for name in dict.fromkeys([*order, *found])})


def _storage_key(key: str, form: StorageForm) -> str:
    return sha256_json([STORAGE_VERSION, key, form.name])


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
