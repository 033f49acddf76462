"""Retrieval tasks of mteb, from the repositories and at the revisions that mteb pins."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiment.collections.collection import Collection, Judgement, make_collection
from experiment.collections.hub import fetch_file, hub_errors, load_splits, missing_from_hub_cache, open_hub
from experiment.collections.mteb_tasks import MTEB_TASKS, MtebTask, find_task
from experiment.collections.rows import Records, read_documents, read_queries
from experiment.collections.source import Source
from projheads.errors import ProjheadsError

__all__ = ["MTEB"]

Rows = list[dict[str, Any]]
Read = tuple[Rows, Rows, Iterator[Judgement], dict[str, list[str]]]
"""Corpus, queries, judgements, and the documents that each query never finds."""

NO_EXCLUSIONS = ("N/A",)
"""What BRIGHT writes for a query that may find every document."""


def _open(name: str, split: str, cache: Path) -> Collection:
    task = find_task(name)
    if task.layout == "beir":
        return open_hub(task.repo, split=split, config=task.config, revision=task.revision, cache=cache)
    with hub_errors(task.repo):
        read = _read_bright if task.layout == "bright" else _read_longembed
        corpus, queries, judgements, excluded = read(task, split)
    source, notes = f"mteb:{name}", Counter[str]()
    return make_collection(
        name,
        split,
        read_documents(Records(f"{source} corpus", "row", enumerate(corpus, start=1)), notes),
        read_queries(Records(f"{source} queries", "row", enumerate(queries, start=1)), notes),
        list(judgements),
        source=source,
        notes=notes,
        excluded=excluded,
    )


def _read_longembed(task: MtebTask, split: str) -> Read:
    """Read one config of LongEmbed, a file per table; a part has the texts of one length.

    The files are read one by one, because ``datasets`` expects the splits of a config to have the same columns.
    """
    part = split.rpartition("_")[2]
    length = int(part) if split.startswith("test_") and part.isdigit() else None

    def rows(name: str) -> Rows:
        file = fetch_file(task.repo, f"{task.config}/{name}.jsonl", task.revision)
        with file.open(encoding="utf-8") as lines:
            found = [json.loads(line) for line in lines if line.strip()]
        return [row for row in found if length is None or row["context_length"] == length]

    corpus = [{"_id": row["doc_id"], "text": row["text"]} for row in rows("corpus")]
    queries = [{"_id": row["qid"], "text": row["text"]} for row in rows("queries")]
    judgements = ((str(row["qid"]), str(row["doc_id"]), 1) for row in rows("qrels"))
    return corpus, queries, judgements, {}


def _read_bright(task: MtebTask, split: str) -> Read:
    """Read one domain of BRIGHT, which is a split of the tables ``documents`` and ``examples``.

    A query never finds its ``excluded_ids``, such as the text that it was written from; mteb leaves them out too.
    """
    long = split == "long"
    documents = load_splits(task.repo, "long_documents" if long else "documents", task.revision)
    examples = load_splits(task.repo, "examples", task.revision)
    for what, tables in (("documents", documents), ("examples", examples)):
        if task.config not in tables:
            raise ProjheadsError(
                f"hf:{task.repo}: its table {what} has no split {task.config}, only {', '.join(tables)}"
            )
    chosen = list(examples[str(task.config)])
    judgements = (
        (str(row["id"]), str(name), 1) for row in chosen for name in row["gold_ids_long" if long else "gold_ids"]
    )
    excluded = {
        str(row["id"]): [str(name) for name in row.get("excluded_ids") or () if name not in NO_EXCLUSIONS]
        for row in chosen
    }
    corpus = [{"_id": row["id"], "text": row["content"]} for row in documents[str(task.config)]]
    queries = [{"_id": row["id"], "text": row["query"]} for row in chosen]
    return corpus, queries, judgements, excluded


MTEB = Source(
    spelling="mteb:<task>",
    about="a retrieval task of mteb, at the revision that mteb pins; only for testing",
    open=_open,
    missing=lambda name, cache: missing_from_hub_cache(find_task(name).repo),
    split=lambda name: find_task(name).split,
    examples=lambda: [f"mteb:{name}" for name in MTEB_TASKS],
    not_for_training="train on beir:<name> or a collection of yours",
)
