"""Tuples in a JSONL file: one line for each query with its documents, the first of them relevant.

A line holds texts, or ids of a collection, in one of these forms; a file holds either texts or ids:

    {"query": "...", "documents": ["...", "...", ...]}
    {"query": "...", "positive": "...", "negative": "..."}      also "anchor" for "query", a list of negatives, and
                                                                "negative_1", "negative_2", ...
    {"query_id": "...", "document_ids": ["...", "...", ...]}

An optional field ``"scores": [...]`` holds the teacher's score of each document, in order; either all lines have it or
none. Other fields are ignored. The first line may be ``{"about": {...}}``, which says how the file was made.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiment.collections import Collection
from projheads.errors import ProjheadsError, parse_json
from train.data.tuples import Tuples, fingerprint, same_id_pairs

__all__ = ["TupleRow", "make_tuples", "parse_row", "read_about", "read_rows", "read_tuples"]


LARGEST_SCORE = 1e30
"""A teacher's scores are kept in float32."""


@dataclass(frozen=True)
class TupleRow:
    """One line of a file of tuples.

    Attributes:
        query: The query's text or id.
        documents: The texts or ids of its documents.
        scores: The teacher's score of each document, or None.
        by_id: Whether query and documents are ids.
    """

    query: str
    documents: list[str]
    scores: list[float] | None
    by_id: bool


def read_tuples(
    path: Path, *, n_ways: int | None, collection: Collection | None, excluded: Iterable[str] = ()
) -> Tuples:
    """Read a JSONL file of tuples. Each distinct text is held once.

    Args:
        path: The file.
        n_ways: Documents to take from each tuple, from the first; None takes all, and every line must have the same
            number.
        collection: Resolves ids and knows which further documents are relevant to a query; None for a file of texts.
        excluded: Ids of the queries that never find the document of the same id.

    Raises:
        ProjheadsError: If the file is missing or a line is invalid; it names the file and line.
    """
    made_from = read_about(path).get("collection")
    if collection and made_from and made_from != collection.hash:
        raise ProjheadsError(
            f"{path}: was made from a different version of {collection.name} ({collection.split}); mine it again"
        )
    rows = ((f"{path} line {number}", parse) for number, parse in read_rows(path))
    return make_tuples(rows, str(path), n_ways=n_ways, collection=collection, excluded=excluded)


def read_rows(path: Path) -> Iterator[tuple[int, TupleRow]]:
    """Yield the line number and content of every tuple in a JSONL file.

    Raises:
        ProjheadsError: If the file is missing or a line is broken.
    """
    for number, value in _read_lines(path):
        if number == 1 and isinstance(value, dict) and "about" in value:
            continue
        try:
            yield number, parse_row(value)
        except ValueError as error:
            raise ProjheadsError(f"{path} line {number}: {error}") from None


def read_about(path: Path) -> dict[str, Any]:
    """Return what the file's first line says about how it was made; empty if it does not."""
    _, first = next(_read_lines(path), (0, None))
    about = first.get("about") if isinstance(first, dict) else None
    return about if isinstance(about, dict) else {}


def parse_row(value: Any) -> TupleRow:
    """Parse one tuple; see the module for its forms.

    Raises:
        ValueError: If it has none of these forms.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{json.dumps(value)[:40]} is not a JSON object")
    by_id = "query_id" in value
    query = value.get("query_id" if by_id else "query", value.get("anchor"))
    documents = value.get("document_ids") if by_id else value.get("documents")
    if documents is None and "positive" in value:
        negatives = [value[key] for key in value if key.startswith("negative") and value[key] is not None]
        documents = [value["positive"]]
        for negative in negatives:
            documents.extend(negative if isinstance(negative, list) else [negative])
    if query is None or documents is None:
        raise ValueError(
            'a tuple has "query" and "documents", "query" and "positive" and "negative", or "query_id" and '
            f'"document_ids"; this one has {", ".join(map(str, value)) or "nothing"}'
        )
    if not isinstance(documents, list):
        raise ValueError(f"the documents are {json.dumps(documents)[:40]}; they must be a list")
    named = [_name(query, by_id), *(_name(document, by_id) for document in documents)]
    return TupleRow(named[0], named[1:], _scores(value.get("scores"), len(documents)), by_id)


def make_tuples(
    rows: Iterable[tuple[str, TupleRow]],
    source: str,
    *,
    n_ways: int | None,
    collection: Collection | None,
    excluded: Iterable[str] = (),
) -> Tuples:
    """Convert rows to arrays, with each distinct query and document once.

    Args:
        rows: Each row with its place, for errors.
        source: Name of the source, for errors.
        n_ways: See ``read_tuples``.
        collection: See ``read_tuples``.
        excluded: See ``read_tuples``.

    Raises:
        ProjheadsError: If a row is invalid, or there are none.
    """
    queries: dict[str, int] = {}
    documents: dict[str, int] = {}
    indices, scores, first, where = [], [], None, ""
    for place, row in rows:
        if first is None:
            first, where = row, place
            wanted = n_ways or len(first.documents)
        _check(row, place, first, where, wanted, given=n_ways is not None, collection=collection)
        query = queries.setdefault(row.query, len(queries))
        own = [documents.setdefault(document, len(documents)) for document in row.documents[:wanted]]
        indices.append((query, *own))
        if row.scores is not None:
            scores.append(row.scores[:wanted])
    if first is None:
        raise ProjheadsError(f"{source}: holds no tuples")
    array = np.array(indices, np.int64)
    taught = np.array(scores, np.float32) if scores else None
    judged = same_ids = np.zeros((0, 2), np.int64)
    query_texts, document_texts = list(queries), list(documents)
    if first.by_id and collection:
        judged = _judged(collection, queries, documents)
        same_ids = same_id_pairs(excluded, queries, documents)
        query_texts = [collection.queries[name] for name in queries]
        document_texts = [collection.corpus[name].passage for name in documents]
    key = fingerprint(query_texts, document_texts, array, taught, judged)
    return Tuples(query_texts, document_texts, array, taught, judged, key, same_ids)


def _check(
    row: TupleRow, place: str, first: TupleRow, where: str, wanted: int, *, given: bool, collection: Collection | None
) -> None:
    """Raise an error if a row is inconsistent with the first one."""
    first_line = where.rpartition(" line ")[2] if " line " in where else where
    count = len(row.documents)
    if count < max(wanted, 2):
        need = f"n_ways is {wanted}" if given else f"line {first_line} has {wanted}"
        need = need if wanted > 1 else "a tuple needs at least 2, a relevant one and a negative"
        raise ProjheadsError(f"{place}: has {count} document{'s' * (count != 1)}, but {need}")
    if count != wanted and not given:
        raise ProjheadsError(f"{place}: has {count} documents, but line {first_line} has {wanted}; set n_ways")
    if row.by_id != first.by_id:
        kinds = ("ids", "texts") if row.by_id else ("texts", "ids")
        raise ProjheadsError(f"{place}: has {kinds[0]}, but line {first_line} has {kinds[1]}")
    if (row.scores is None) != (first.scores is None):
        raise ProjheadsError(f"{place}: some rows have scores and others do not; score all or none")
    if not row.by_id:
        return
    if collection is None:
        raise ProjheadsError(f"{place}: has ids; name their collection (`source`)")
    about = f"{collection.name} ({collection.split})"
    if row.query not in collection.queries:
        raise ProjheadsError(f'{place}: {about} has no judged query "{row.query}"')
    for document in row.documents[:wanted]:
        if document not in collection.corpus:
            raise ProjheadsError(f'{place}: {about} has no document "{document}"')


def _judged(collection: Collection, queries: Mapping[str, int], documents: Mapping[str, int]) -> np.ndarray:
    """List the (query, document) pairs that the collection judges relevant, (m, 2) indices."""
    found = [
        (index, documents[document])
        for query, index in queries.items()
        for document, grade in collection.qrels[query].items()
        if grade > 0 and document in documents
    ]
    return np.array(found, np.int64).reshape(-1, 2)


def _name(value: Any, by_id: bool) -> str:
    if by_id and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        kind = "an id must be a string or an integer" if by_id else "a text must be a string"
        raise ValueError(f"{json.dumps(value)[:40]} is not a query or document; {kind}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{ascii(value)[:40]} holds half of a surrogate pair, which is not a character") from None
    return value


def _scores(value: Any, count: int) -> list[float] | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    if not numbers or not all(abs(score) <= LARGEST_SCORE for score in value):
        raise ValueError(f'"scores" is not a list of finite numbers up to {LARGEST_SCORE:.0e}')
    if len(value) != count:
        raise ValueError(f"has {count} documents but {len(value)} scores")
    return [float(score) for score in value]


def _read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    if not path.is_file():
        raise ProjheadsError(f"{path}: no such file; `python -m train mine` writes one")
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                if raw.strip():
                    yield number, parse_json(raw)
            except UnicodeDecodeError:
                raise ProjheadsError(f"{path} line {number}: not UTF-8; convert the file") from None
            except ValueError as error:
                reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
                raise ProjheadsError(f"{path} line {number}: invalid JSON: {reason}") from None
