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
    "maxsim_of",
    "priorities",
    "rank",
    "rounding_errors",
    "shortlist",
    "sums_over_tokens",
]


UNIT_ROUNDOFF = 2.0**-24
"""Unit roundoff of float32."""

BLOCK = 1024
"""Token vectors of documents that are scored together, which stay in the CPU caches."""


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
    lengths = problem.queries.lengths[queries]
    return np.asarray((problem.queries.width + lengths + 4) * UNIT_ROUNDOFF * norms * largest_norm)


def sums_over_tokens(store: TokenStore, value: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Sum a value of each token vector over the tokens of each text.

    Args:
        store: The texts.
        value: Computes the values (n,) of rows (n, width) float64.

    Returns:
        (n_texts,) float64.
    """
    blocks = range(0, len(store.vectors), 4 * BLOCK)
    values = [value(store.vectors[first : first + 4 * BLOCK].astype(np.float64)) for first in blocks]
    return np.asarray(np.diff(np.concatenate([[0.0], *values]).cumsum()[store.offsets]))


def shortlist(scores: np.ndarray, depth: int, error: float, floor: float = -np.inf) -> np.ndarray:
    """Return the places of all scores (n,) that may be among the ``depth`` best and may reach a floor.

    Args:
        scores: Scores as computed; minus infinity for documents that must not be found.
        depth: How many are wanted.
        error: Largest error of a score.
        floor: The lowest reported score that is wanted.
    """
    # Twice the error also covers the rounding of the floor, which is a reported score.
    finite = np.flatnonzero(scores > -np.inf) if floor == -np.inf else np.flatnonzero(scores >= floor - 2 * error)
    if len(finite) <= depth:
        return finite
    kept = scores[finite]
    last = np.partition(kept, len(kept) - depth)[len(kept) - depth]
    return np.asarray(finite[kept >= last - 2 * error])


def rank(problem: Problem, query: int, documents: np.ndarray) -> Ranking:
    """Score documents (n,) for a query, as reported, and return the best ``depth`` in their final order."""
    scores = _reported_scores(problem, query, documents)
    return in_order(documents, scores, problem.priority, problem.depth)


def in_order(documents: np.ndarray, scores: np.ndarray, priority: np.ndarray, depth: int) -> Ranking:
    """Return the best ``depth`` of documents (n,) by their reported scores (n,), ties by priority."""
    order = np.lexsort((-priority[documents], -scores))[:depth]
    return Ranking(documents[order], scores[order])


def maxsim_of(problem: Problem, query: int, documents: np.ndarray) -> np.ndarray:
    """MaxSim in float32 of a query with documents (n,), each of which has a token vector; (n,)."""
    found = (_similarities(problem, query, block)[2] for block in _blocks(problem, documents))
    return _joined([best.sum(axis=0) for best in found])


def _reported_scores(problem: Problem, query: int, documents: np.ndarray) -> np.ndarray:
    """MaxSim in float64, rounded to float32, (n,)."""
    return _joined([_reported_block(problem, query, block) for block in _blocks(problem, documents)])


def _reported_block(problem: Problem, query: int, documents: np.ndarray) -> np.ndarray:
    """Score a few documents (n,).

    Similarities in float32 show which few token vectors can be a document's best for a query token; only those are
    multiplied in float64.
    """
    tokens = np.asarray(problem.queries[query], np.float64)
    rows, similarities, best, starts = _similarities(problem, query, documents)
    norms = np.linalg.norm(tokens, axis=1) * float(torch.linalg.vector_norm(rows, dim=1).max())
    errors = (problem.queries.width + 4) * UNIT_ROUNDOFF * norms
    least = np.repeat(best - 2 * errors[:, None].astype(np.float32), problem.documents.lengths[documents], axis=1)
    token, row = np.divmod(np.flatnonzero(similarities >= least), len(rows))
    products = np.einsum("ij,ij->i", tokens[token], rows.numpy()[row].astype(np.float64))
    # In row-major order, the products that compete for one maximum are adjacent.
    place = token * len(documents) + np.searchsorted(starts, row, side="right") - 1
    first = np.flatnonzero(np.diff(place, prepend=-1))
    exact = np.maximum.reduceat(products, first).reshape(len(tokens), len(documents))
    return np.asarray(exact.sum(axis=0).astype(np.float32))


def _blocks(problem: Problem, documents: np.ndarray) -> Iterator[np.ndarray]:
    """Divide documents (n,) into blocks of about ``BLOCK`` token vectors."""
    ends = np.cumsum(problem.documents.lengths[documents])
    cuts = np.flatnonzero(np.diff(ends // BLOCK)) + 1
    yield from (block for block in np.split(documents, cuts) if len(block))


def _joined(scores: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(scores) if scores else np.zeros(0, np.float32)


def _similarities(
    problem: Problem, query: int, documents: np.ndarray
) -> tuple[Tensor, np.ndarray, np.ndarray, np.ndarray]:
    """Compare a query with a few documents (n,).

    Returns:
        The rows of the documents (n_rows, width) and their similarities (L, n_rows), both in float32, the maxima (L,
        n), and where each document's rows start (n,).
    """
    store = problem.documents
    lengths = store.lengths[documents]
    starts = np.cumsum(lengths) - lengths
    places = np.repeat(store.offsets[documents] - starts, lengths) + np.arange(lengths.sum())
    rows = torch.from_numpy(np.asarray(store.vectors).take(places, axis=0)).float()
    similarities = torch.mm(torch.tensor(problem.queries[query]).float(), rows.T).numpy()
    return rows, similarities, np.maximum.reduceat(similarities, starts, axis=1), starts
