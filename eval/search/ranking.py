"""The problem that a search solves, its answer, and the one routine that computes every final score and order.

A reported score is the MaxSim of the *stored* vectors: similarities, maxima and their sum in float64, rounded
once to float32. For float16 vectors of norm 1 the float64 arithmetic is exact: products are multiples of 2^-48, and 53
bits hold every multiple of that below 32, so no similarity rounds and no sum over 32 query tokens does. Hence a score
depends neither on block shapes, threads and libraries, nor on which search proposed the document, and equal documents
have equal scores.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from experiment.encoding.store import TokenStore

__all__ = [
    "NOTHING",
    "Problem",
    "Ranking",
    "in_order",
    "priorities",
    "rank",
    "rounding_errors",
    "shortlist",
    "sums_over_tokens",
]


UNIT_ROUNDOFF = 2.0**-24
"""Unit roundoff of float32."""

BLOCK = 4096
"""Token vectors of documents that are scored together, which stay in the CPU caches."""

PRODUCTS = 2**10
"""Pairs of token vectors that are multiplied in float64 at a time."""


@dataclass(frozen=True)
class Problem:
    """Queries to be answered from a corpus.

    Attributes:
        queries: Embeddings of the queries.
        documents: Embeddings of the documents. A document without a token vector is never found.
        depth: Documents wanted for each query.
        priority: (n_documents,) int64, all different: of two documents of equal score, the one with the
            higher priority comes first.
        own: (n_queries,) or (n_queries, n) int64: the documents that the query never finds, such as the one that has
            the query's id, or -1; see ``experiment.collections.same_ids``.
    """

    queries: TokenStore
    documents: TokenStore
    depth: int
    priority: np.ndarray
    own: np.ndarray

    @property
    def hidden(self) -> np.ndarray:
        """``own`` as a table, (n_queries, n) int64, -1 for none."""
        return self.own.reshape(len(self.queries), -1)

    def may_find(self, query: int, documents: np.ndarray) -> np.ndarray:
        """Return which documents (k,) a query may find, (k,) bool."""
        return ~np.isin(documents, self.hidden[query])

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of scoring every query against every document."""
        return len(self.queries.vectors) * len(self.documents.vectors) * self.documents.width


@dataclass(frozen=True)
class Ranking:
    """The answer to one query, best first.

    Attributes:
        documents: (k,) int64 places in the corpus.
        scores: (k,) float32.
    """

    documents: np.ndarray
    scores: np.ndarray


NOTHING = Ranking(np.zeros(0, np.int64), np.zeros(0, np.float32))
"""The answer to a query that cannot be searched."""


def priorities(document_ids: Sequence[str]) -> np.ndarray:
    """Return ``Problem.priority``: of two documents of equal score, the one with the higher id comes first.

    Ids are compared as strings by their UTF-8 bytes (which is the order of their code points). This is
    trec_eval's order, whatever the order of the lines in a run file.
    """
    priority = np.empty(len(document_ids), np.int64)
    priority[sorted(range(len(document_ids)), key=document_ids.__getitem__)] = np.arange(len(document_ids))
    return priority


def rounding_errors(problem: Problem, queries: np.ndarray, largest_norm: float) -> np.ndarray:
    """Bound the error of scores of queries (n,) that were computed in float32, (n,) float64.

    An inner product of n terms is off by at most n u |x| |y|, and a sum of L of them by L u of its size more, where u =
    2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).

    Args:
        problem: The search.
        queries: (n,) int64.
        largest_norm: Largest norm of a document token vector.
    """
    norms = sums_over_tokens(problem.queries, lambda rows: np.linalg.norm(rows, axis=1))[queries]
    return _rounding(problem.queries.width, problem.queries.lengths[queries], norms, largest_norm)


def _rounding(width: int, lengths: np.ndarray | int, norms: np.ndarray, largest_norm: float) -> np.ndarray:
    """Bound the error of scores of queries with these lengths, and these sums of their tokens' norms, both (n,)."""
    return np.asarray((width + lengths + 4) * UNIT_ROUNDOFF * norms * largest_norm)


def sums_over_tokens(store: TokenStore, value: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Sum a value of each token vector over the tokens of each text.

    Args:
        store: The texts.
        value: Computes the values (n,) of rows (n, width) float64.

    Returns:
        (n_texts,) float64.
    """
    blocks = range(0, len(store.vectors), BLOCK)
    values = [value(store.vectors[first : first + BLOCK].astype(np.float64)) for first in blocks]
    return np.asarray(np.diff(np.concatenate([[0.0], *values]).cumsum()[store.offsets]))


def shortlist(scores: np.ndarray, depth: int, error: float, floor: float = -np.inf) -> np.ndarray:
    """Return the places of all scores (n,) that may be among the ``depth`` best and may reach a floor.

    Args:
        scores: Scores as computed; minus infinity for documents that must not be found.
        depth: How many are wanted.
        error: Largest error of a score.
        floor: The lowest reported score that is wanted.
    """
    # The floor is a reported score, so it was rounded to float32: by less than a sixth of the error, see ``_rounding``.
    finite = np.flatnonzero(scores > -np.inf) if floor == -np.inf else np.flatnonzero(scores >= floor - 1.25 * error)
    if len(finite) <= depth:
        return finite
    kept = scores[finite]
    last = np.partition(kept, len(kept) - depth)[len(kept) - depth]
    return np.asarray(finite[kept >= last - 2 * error])


def rank(
    problem: Problem,
    query: int,
    documents: np.ndarray,
    floor: float = -np.inf,
    limits: np.ndarray | None = None,
) -> Ranking:
    """Score documents for a query, as reported, and return the best ``depth`` in their final order.

    Similarities in float32 show which documents can be among the best, and which few token vectors of each can be the
    best one for a query token; only those are multiplied in float64.

    Args:
        problem: The search.
        query: Place of the query, which has a token vector.
        documents: (n,) int64, each with a token vector.
        floor: The lowest reported score that is wanted.
        limits: (n,), what the score of each document cannot exceed, which saves comparing some; None if unknown.
    """
    if not len(documents):
        return NOTHING
    tokens = problem.queries[query].astype(np.float64)
    norms, single = np.linalg.norm(tokens, axis=1), torch.tensor(tokens).float()
    blocks: list[_Block] = []

    def compare(some: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the scores of all documents that have been compared, and their largest error."""
        blocks.extend(_compare(problem.documents, single, norms, block) for block in _blocks(problem.documents, some))
        error = _rounding(tokens.shape[1], len(tokens), norms.sum(), max(block.norm for block in blocks))
        return np.concatenate([block.scores for block in blocks]), float(error)

    if limits is None or len(documents) <= problem.depth:
        scores, error = compare(documents)
    else:
        order = np.argsort(-limits, kind="stable")
        documents, limits = documents[order], limits[order]
        scores, error = compare(documents[: problem.depth])
        # Each of these scores at least so much; twice the error also covers scores that are reported as equal.
        documents = documents[: max(problem.depth, int((limits >= scores.min() - 2 * error).sum()))]
        if len(documents) > problem.depth:
            scores, error = compare(documents[problem.depth :])
    near = shortlist(scores, problem.depth, error, floor)
    return in_order(
        documents[near], _reported(problem.documents, tokens, blocks, near), problem.priority, problem.depth
    )


def in_order(documents: np.ndarray, scores: np.ndarray, priority: np.ndarray, depth: int) -> Ranking:
    """Return the best ``depth`` of documents (n,) by their reported scores (n,), ties by priority."""
    order = np.lexsort((-priority[documents], -scores))[:depth]
    return Ranking(documents[order], scores[order])


@dataclass(frozen=True)
class _Block:
    """A few documents compared with a query in float32.

    Attributes:
        scores: (n,), MaxSim of each document.
        norm: Largest norm of a token vector.
        tokens: (m,) int64, places of query tokens.
        rows: (m,) int64, places of the token vectors in the corpus that may be a document's best for that query token.
        places: (m,) int64, the document that each belongs to, from 0 to n - 1.
    """

    scores: np.ndarray
    norm: float
    tokens: np.ndarray
    rows: np.ndarray
    places: np.ndarray


def _compare(store: TokenStore, tokens: Tensor, norms: np.ndarray, documents: np.ndarray) -> _Block:
    """Compare the token vectors (L, width) of a query in float32, of norms (L,), with a few documents (n,)."""
    lengths = store.lengths[documents]
    starts = np.cumsum(lengths) - lengths
    rows = np.repeat(store.offsets[documents] - starts, lengths) + np.arange(lengths.sum())
    vectors = _vectors(store, rows)
    similarities = torch.mm(tokens, vectors.T).numpy()
    best = np.maximum.reduceat(similarities, starts, axis=1)
    norm = float(torch.linalg.vector_norm(vectors, dim=1).max())
    least = best - ((store.width + 4) * 2 * UNIT_ROUNDOFF * norm * norms[:, None]).astype(np.float32)
    token, row = np.divmod(np.flatnonzero(similarities >= np.repeat(least, lengths, axis=1)), len(rows))
    return _Block(best.sum(axis=0), norm, token, rows[row], np.searchsorted(starts, row, side="right") - 1)


def _reported(store: TokenStore, tokens: np.ndarray, blocks: Sequence[_Block], near: np.ndarray) -> np.ndarray:
    """MaxSim in float64 of a query (L, width) and the compared documents at the places (k,), rounded to float32."""
    firsts = np.cumsum([0, *(len(one.scores) for one in blocks)])
    column = np.full(firsts[-1], -1)
    column[near] = np.arange(len(near))
    columns = column[np.concatenate([one.places + first for one, first in zip(blocks, firsts, strict=False)])]
    # Products that compete for one maximum become adjacent.
    cells = np.concatenate([one.tokens for one in blocks]) * len(near) + columns
    order = np.argsort(cells, kind="stable")
    order = order[columns[order] >= 0]
    cells, rows = cells[order], np.concatenate([one.rows for one in blocks])[order]
    products = np.empty(len(order))
    for first in range(0, len(order), PRODUCTS):
        some = slice(first, first + PRODUCTS)
        vectors = _vectors(store, rows[some]).double().numpy()
        products[some] = np.einsum("ij,ij->i", tokens[cells[some] // len(near)], vectors)
    best = np.maximum.reduceat(products, np.flatnonzero(np.diff(cells, prepend=-1))).reshape(len(tokens), len(near))
    scores = np.zeros(len(near))
    for row in best:  # One token after the other, so that the sum does not depend on which documents are here.
        scores += row
    return scores.astype(np.float32)


def _vectors(store: TokenStore, rows: np.ndarray) -> Tensor:
    """Return token vectors (n, width) in float32; torch converts float16 several times as fast as NumPy."""
    return torch.from_numpy(np.asarray(store.vectors).take(rows, axis=0)).float()


def _blocks(store: TokenStore, documents: np.ndarray) -> Iterator[np.ndarray]:
    """Divide documents (n,) into blocks of about ``BLOCK`` token vectors."""
    ends = np.cumsum(store.lengths[documents])
    cuts = np.flatnonzero(np.diff(ends // BLOCK)) + 1
    yield from (block for block in np.split(documents, cuts) if len(block))
