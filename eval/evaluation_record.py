"""The JSON that stands for one evaluation: what was measured, on what, and what it took."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.measures import mean_of
from eval.search.choice import Answer
from eval.search.compressed import STORAGE_VERSION
from eval.subjects import Subject
from experiment.collections import Collection
from experiment.config import EvalConfig, EvalDatasetRef
from experiment.config.storage_forms import StorageForm
from experiment.disk.files import SCHEMA_VERSION, read_json, sha256_json, versions, write_json
from experiment.encoding.store import TokenStore

__all__ = [
    "evaluation_key",
    "evaluation_record",
    "is_finished",
    "missing_forms",
    "regroup",
    "storage_entry",
    "with_storage",
]

EVALUATION_VERSION = 2
"""Raised when a change to the code changes what an evaluation computes; older evaluations are then made anew."""

STAND_IN_VERSION = 1
"""The same for what is computed beside the evaluation of a head that is not linear."""

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


def evaluation_key(subject: Subject, collection: Collection, settings: EvalConfig, precision: str) -> str:
    """Hash everything that an evaluation's result depends on."""
    shared = {
        "version": EVALUATION_VERSION,
        "subject": [subject.kind, subject.identity],
        "data": collection.hash,
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
    return sha256_json(shared | {"index": index, "precision": precision})


def is_finished(subject: Subject, dataset: str, key: str) -> bool:
    """Tell whether this very evaluation lies on the disk, whole."""
    record = subject.folder.eval_json(dataset)
    return record.exists() and subject.folder.eval_run(dataset).exists() and read_json(record).get("key") == key


def missing_forms(record: Mapping[str, Any], forms: Sequence[StorageForm]) -> list[StorageForm]:
    """Return the forms of storage that an evaluation has no entry of, or one that was computed otherwise."""
    entries = record.get("storage", {})
    return [form for form in forms if entries.get(form.name, {}).get("key") != _storage_key(record["key"], form)]


def storage_entry(
    record: Mapping[str, Any],
    form: StorageForm,
    measures: Mapping[str, Mapping[str, float]],
    bytes_per_vector: int,
    index_bytes: int,
) -> dict[str, Any]:
    """Put the evaluation of a stored form into the form of an item of ``storage`` in ``eval/<dataset>.json``.

    Args:
        record: The evaluation that it belongs to.
        form: The form.
        measures: Scores by measure and query id, of which those of the first measure are kept.
        bytes_per_vector: Of a document's token vector.
        index_bytes: Of all documents' codes, and of what is needed to read them.
    """
    return {
        "key": _storage_key(record["key"], form),
        "bytes_per_vector": bytes_per_vector,
        "index_bytes": index_bytes,
        "measures": {name: mean_of(values) for name, values in measures.items()},
        "per_query": next(iter(measures.values())),
    }


def with_storage(record: Mapping[str, Any], entries: Mapping[str, Any], forms: Sequence[StorageForm]) -> dict[str, Any]:
    """Add entries of stored forms to an evaluation, in the order of the configuration, others behind."""
    found = {**record.get("storage", {}), **entries}
    order = [form.name for form in forms if form.name in found]
    return {**record, "storage": {name: found[name] for name in dict.fromkeys([*order, *found])}}


def _storage_key(key: str, form: StorageForm) -> str:
    return sha256_json([STORAGE_VERSION, key, form.name])


def regroup(subject: Subject, dataset: EvalDatasetRef) -> None:
    """Bring an evaluation that is there up to date where its data set has come into a group, or left one."""
    path = subject.folder.eval_json(dataset.name)
    record = read_json(path) if path.exists() else None
    if record is not None and record["dataset"].get("group") != dataset.group:
        write_json(path, record | {"dataset": record["dataset"] | {"group": dataset.group}})


def evaluation_record(
    key: str,
    dataset: EvalDatasetRef,
    collection: Collection,
    answer: Answer,
    measures: Mapping[str, Mapping[str, float]],
    embeddings: tuple[TokenStore, TokenStore] | None,
    linearised: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put an evaluation into the form of ``eval/<dataset>.json``.

    Args:
        key: Its ``evaluation_key``.
        dataset: The data set as the configuration names it.
        collection: The data set's content.
        answer: What the search found.
        measures: Scores by measure and query id.
        embeddings: Of queries and of documents; None where there are none.
        linearised: The linear stand-in of a head that is not linear; None where there is none.
    """
    stores = embeddings or ()
    truncated = [store.truncated for store in stores] or [0, 0]
    return {
        "schema_version": SCHEMA_VERSION,
        "key": key,
        "dataset": {
            "name": dataset.name,
            "source": dataset.source,
            "split": dataset.split,
            "group": dataset.group,
            "hash": collection.hash,
            "documents": len(collection.corpus),
            "queries": len(collection.qrels),
            "notes": dict(collection.notes),
        },
        "index": answer.index,
        "measures": measures,
        "means": {name: mean_of(values) for name, values in measures.items()},
        "timings": {
            "encode_s": sum(store.seconds for store in stores),
            "index_s": answer.index_s,
            "search_s": answer.search_s,
        },
        "bytes": {
            "token_vectors": stores[1].vectors.nbytes if stores else 0,
            "index": answer.index_bytes,
        },
        "versions": versions(PACKAGES),
        "truncated": {"queries": truncated[0], "documents": truncated[1]},
        "linearised": linearised,
    }
