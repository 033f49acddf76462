"""Tuples of a query and its documents, which every source of training examples is read into."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np

from experiment.collections import Collection, training_pairs
from experiment.disk.files import sha256_parts
from experiment.seeds import numpy_generator

__all__ = ["Picked", "Tuples", "draw_examples", "example_generator", "fingerprint", "joined", "pairs_of"]
__all__ += ["same_id_pairs"]


CHUNK = 4096
"""Texts read from a column at once."""


class Picked(Sequence[str]):
    """A lazy selection of texts from a long column.

    Args:
        read: Returns the texts at given positions (n,) of the column.
        indices: (n,) the positions of the selection.
    """

    def __init__(self, read: Callable[[np.ndarray], list[str]], indices: np.ndarray) -> None:
        self._read, self._indices = read, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return one text, or the texts of a slice."""
        if isinstance(index, slice):
            return self._read(self._indices[index])
        return self._read(self._indices[[index]])[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), CHUNK):
            yield from self[start : start + CHUNK]

    def pick(self, indices: np.ndarray) -> "Picked":
        """Return a selection of this selection."""
        return Picked(self._read, self._indices[indices])


@dataclass(frozen=True)
class Tuples:
    """Queries with their documents, as indices into the texts.

    Attributes:
        queries: Query texts.
        documents: Document texts.
        rows: (n, 1 + n_ways) int64: a query, then its documents; the first of them is relevant.
        scores: (n, n_ways) float32, the teacher's score of each document; None without a teacher.
        judged: (m, 2) int64, further (query, document) pairs known to be relevant.
        hash: Content hash of the data.
        excluded: (m, 2) int64, (query, document) pairs of one id, of which the query never finds the document.
    """

    queries: Sequence[str]
    documents: Sequence[str]
    rows: np.ndarray
    scores: np.ndarray | None
    judged: np.ndarray
    hash: str
    excluded: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))

    def take(self, chosen: np.ndarray) -> "Tuples":
        """Keep some rows and the texts they use, in the order of first use."""
        rows = self.rows[chosen]
        queries, query_places = _first_use(rows[:, 0])
        documents, document_places = _first_use(rows[:, 1:].ravel())
        new_query, new_document = _inverse(queries, len(self.queries)), _inverse(documents, len(self.documents))
        judged, excluded = (
            np.stack([new_query[pairs[:, 0]], new_document[pairs[:, 1]]], axis=1)
            for pairs in (self.judged, self.excluded)
        )
        return replace(
            self,
            queries=_pick(self.queries, queries),
            documents=_pick(self.documents, documents),
            rows=np.concatenate([query_places[:, None], document_places.reshape(len(rows), -1)], axis=1),
            scores=None if self.scores is None else self.scores[chosen],
            judged=judged[(judged >= 0).all(axis=1)],
            excluded=excluded[(excluded >= 0).all(axis=1)],
        )


def example_generator() -> np.random.Generator:
    """Return the generator that draws the examples and what is held out: the same for every variant and seed."""
    return numpy_generator(0, "training pairs")


def draw_examples(count: int, most: int | None, generator: np.random.Generator) -> np.ndarray:
    """Draw ``most`` of ``count`` examples; all of them if there are fewer, or if ``most`` is None.

    Returns:
        Their places (n,), sorted.
    """
    if most is None or count <= most:
        return np.arange(count)
    return np.sort(generator.permutation(count)[:most])


def joined(texts: Sequence[str], more: Sequence[str]) -> Sequence[str]:
    """Append texts; a lazy column stays lazy, and texts that are read together are read from each part at once."""
    if not more:
        return texts
    if not isinstance(texts, Picked) and not isinstance(more, Picked):
        return [*texts, *more]
    first = len(texts)

    def read(places: np.ndarray) -> list[str]:
        early = places < first
        parts = iter(_pick(texts, places[early])[:]), iter(_pick(more, places[~early] - first)[:])
        return [next(parts[0] if one else parts[1]) for one in early.tolist()]

    return Picked(read, np.arange(first + len(more)))


def pairs_of(collection: Collection, excluded: Iterable[str] = ()) -> Tuples:
    """Read the pairs of a collection: tuples with one document each.

    Args:
        collection: The collection.
        excluded: Ids of the queries that never find the document of the same id.
    """
    named = training_pairs(collection)
    queries = {name: index for index, name in enumerate(dict.fromkeys(query for query, _ in named))}
    documents = {name: index for index, name in enumerate(dict.fromkeys(document for _, document in named))}
    rows = np.array([(queries[query], documents[document]) for query, document in named], np.int64).reshape(-1, 2)
    return Tuples(
        queries=[collection.queries[name] for name in queries],
        documents=[collection.corpus[name].passage for name in documents],
        rows=rows,
        scores=None,
        judged=rows,
        hash=collection.hash,
        excluded=same_id_pairs(excluded, queries, documents),
    )


def same_id_pairs(names: Iterable[str], queries: Mapping[str, int], documents: Mapping[str, int]) -> np.ndarray:
    """Return the indices of the query and the document of each id that both have, (m, 2)."""
    pairs = [(queries[name], documents[name]) for name in sorted(names) if name in queries and name in documents]
    return np.array(pairs, np.int64).reshape(-1, 2)


def fingerprint(
    queries: Sequence[str], documents: Sequence[str], rows: np.ndarray, scores: np.ndarray | None, judged: np.ndarray
) -> str:
    """Hash tuples by their texts, rows and scores."""

    def parts() -> Iterator[bytes]:
        for texts in (queries, documents):
            yield str(len(texts)).encode()
            yield from (text.encode("utf-8", "surrogatepass") for text in texts)
        for array, kind in ((rows, "<i8"), (scores, "<f4"), (judged, "<i8")):
            if array is not None:
                yield str(array.shape).encode()
                yield np.ascontiguousarray(array, kind).tobytes()

    return sha256_parts(parts())


def _first_use(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values in the order of first use, and the index of every value among them."""
    distinct, first, places = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return distinct[order], rank[places]


def _inverse(kept: np.ndarray, count: int) -> np.ndarray:
    """Return the new index of each of ``count`` old ones, -1 for dropped ones."""
    new = np.full(count, -1, np.int64)
    new[kept] = np.arange(len(kept))
    return new


def _pick(texts: Sequence[str], indices: np.ndarray) -> Sequence[str]:
    return texts.pick(indices) if isinstance(texts, Picked) else [texts[int(index)] for index in indices]
