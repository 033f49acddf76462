"""Texts that the report shows for the queries that gained and lost most."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from eval.runs import decode_id
from eval.subjects import Subject
from experiment.collections import Collection
from experiment.disk.records import TextsRecord
from projheads.errors import ProjheadsError

__all__ = ["write_texts"]

TOP = 3
"""Documents of a ranking whose texts are kept."""

CHARACTERS = 300


def write_texts(path: Path, dataset: str, collection: Collection, subjects: Sequence[Subject]) -> None:
    """Write the texts of all judged queries and of the documents at the top of some subject's run."""
    runs = [subject.folder.eval_run(dataset) for subject in subjects]
    top = {document for run in runs if run.exists() for document in _top_documents(run)}
    texts = TextsRecord(
        queries={name: _short(collection.queries[name]) for name in collection.qrels},
        documents={name: _short(collection.corpus[name].passage) for name in sorted(top & collection.corpus.keys())},
    )
    if TextsRecord.find(path) != texts:
        texts.write(path)


def _top_documents(run: Path) -> Iterator[str]:
    try:
        with run.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                _, _, document, rank, *_ = line.split(" ")
                if int(rank) <= TOP:
                    yield decode_id(document)
    except ValueError:
        raise ProjheadsError(
            f"{run}: damaged; delete it and the .json file beside it, and run python -m eval again"
        ) from None


def _short(text: str) -> str:
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1].rstrip() + "…"
