"""The problem that a search solves, its answer, and the one routine that computes every final score and order.

A reported score is the MaxSim of the *stored* vectors: similarities, maxima and their sum in float64, rounded
once to float32. For float16 vectors of norm 1 the float64 arithmetic is exact: products are multiples of 2^-48, and 53
bits hold every multiple of that below 32, so no similarity rounds and no sum over 32 query tokens does. Hence a score
depends neither on block shapes, threads and libraries, nor on which search proposed the document, and equal documents
have equal scores.
"""

from collections.abc import Sequence
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
]


UNIT_ROUNDOFF = 2.0**-24
"""Unit roundoff of float32."""


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
    lengths = problem.queries.lengths[queries]
    norms = [np.linalg.norm(problem.queries[int(query)].astype(np.float64), axis=1).sum() for query in queries]
    return np.asarray((problem.queries.width + lengths + 4) * UNIT_ROUNDOFF * np.array(norms) * largest_norm)


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
    if not len(documents):
        return np.zeros(0, np.float32)
    _, best, _ = _similarities(problem, query, _rows_of(problem.documents, documents), documents)
    return np.asarray(best.sum(axis=0))


def _reported_scores(problem: Problem, query: int, documents: np.ndarray) -> np.ndarray:
    """MaxSim in float64, rounded to float32, (n,).

    Similarities in float32 show which few token vectors can be a document's best for a query token; only those are
    multiplied in float64.
    """
    if not len(documents):
        return np.zeros(0, np.float32)
    tokens, rows = np.asarray(problem.queries[query], np.float64), _rows_of(problem.documents, documents)
    similarities, best, starts = _similarities(problem, query, rows, documents)
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


def _similarities(
    problem: Problem, query: int, rows: Tensor, documents: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return similarities (L, n_rows) in float32, their maxima (L, n), and where each document's rows start (n,)."""
    similarities = torch.mm(torch.tensor(problem.queries[query]).float(), rows.T).numpy()
    lengths = problem.documents.lengths[documents]
    starts = np.cumsum(lengths) - lengths
    return similarities, np.maximum.reduceat(similarities, starts, axis=1), starts


def _rows_of(store: TokenStore, texts: np.ndarray) -> Tensor:
    """Return the token vectors of texts (n,), float32."""
    vectors = np.asarray(store.vectors)
    parts = [vectors[store.offsets[text] : store.offsets[text + 1]] for text in texts]
    return torch.from_numpy(np.concatenate(parts)).float()
