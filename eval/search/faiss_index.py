"""Approximate MaxSim search: FAISS proposes documents for each query token, exact MaxSim ranks them.

The index contains every token vector of the corpus and is searched by inner product. A query's candidates are the union
over its tokens (as in ColBERT's first stage, Khattab and Zaharia, 2020, section 3.4); their scores come from the stored
vectors, never from the index, and so equal those of the exact search.

FAISS is imported inside functions, see ``experiment.config.index_factory``.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from eval.search.ranking import Problem, Ranking, rank
from experiment.config.index_factory import check_factory, empty_index, faiss_library, faiss_reason
from experiment.encoding.store import TokenStore
from experiment.encoding.threads import over_threads
from projheads.errors import ProjheadsError

__all__ = [
    "TokenIndex",
    "build_index",
    "check_factory",
    "faiss_library",
    "faiss_search",
    "faiss_threads",
    "training_rows",
    "written_bytes",
]

ADD_ROWS = 2**16
"""Token vectors passed to FAISS at once, in float32."""

TRAINING_ROWS_PER_LIST = 64
TRAINING_ROWS = 2**16
"""An index is trained on this many token vectors per inverted list, and on at least the second number."""

HITS = 2**22
"""Hits kept in memory at once."""

GPU_MOST_HITS = 2048
"""Largest number of neighbours that FAISS finds on a GPU."""


@dataclass(frozen=True)
class TokenIndex:
    """A FAISS index over the token vectors of a corpus.

    Attributes:
        index: The ``faiss.Index``.
        nprobe: Inverted lists that a search visits; None if the index has none.
        resources: FAISS's memory on the GPU, which must live as long as the index; None for an index on the CPU.
    """

    index: Any
    nprobe: int | None
    resources: Any

    @property
    def on_gpu(self) -> bool:
        """Whether the index is on a GPU."""
        return self.resources is not None

    @property
    def bytes(self) -> int:
        """Size of the index when written to a file."""
        return written_bytes(faiss_library().index_gpu_to_cpu(self.index) if self.on_gpu else self.index)


def written_bytes(index: Any) -> int:
    """Return the size of a ``faiss.Index`` on the CPU when written to a file."""
    faiss, size = faiss_library(), 0

    def count(block: bytes) -> None:
        nonlocal size
        size += len(block)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count))
    return size


def build_index(
    store: TokenStore, factory: str, nprobe: int | None, device: torch.device, *, key: str = "eval.index"
) -> TokenIndex:
    """Build an index over every token vector of a corpus.

    It is trained on a sample drawn with a fixed seed. The same vectors and the same number of threads give the same
    index on the CPU; for this reason a graph (HNSW, NSG), whose links depend on the order of insertion, is built by one
    thread.

    Args:
        store: The corpus.
        factory: FAISS's description, for example ``IVF1024,Flat``.
        nprobe: Inverted lists that a search visits; None for a thirty-second of them, but at least 8.
        device: The index is put on this device if it is a GPU and FAISS supports both.
        key: The key of the configuration that messages begin with.

    Raises:
        ProjheadsError: As in ``check_factory``, or if the corpus is too small to train the index.
    """
    index, nprobe = empty_index(factory, store.width, nprobe, key=key)
    index, resources = _to_gpu(index, device)
    with faiss_threads(1 if re.search("HNSW|NSG", factory) else torch.get_num_threads()):
        try:
            if not index.is_trained:
                index.train(_sample(store, index))
            for first in range(0, len(store.vectors), ADD_ROWS):
                index.add(store.vectors[first : first + ADD_ROWS].astype(np.float32))
        except RuntimeError as error:
            raise ProjheadsError(f'{key} "{factory}": {faiss_reason(error)}') from None
    return TokenIndex(index, nprobe, resources)


def faiss_search(
    problem: Problem,
    index: TokenIndex,
    *,
    candidates_per_token: int,
    max_candidates: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Ranking]:
    """Rank the documents of each query's candidates by exact MaxSim.

    Args:
        problem: Queries, corpus and depth.
        index: The index over the corpus.
        candidates_per_token: Token vectors that the index returns for each query token.
        max_candidates: Documents scored per query, those with the best approximate scores; None for all.
        progress: Called with the share of the queries that were answered since the last call.

    Returns:
        One ranking per query; empty for a query without token vectors.
    """
    report = progress or (lambda share: None)
    lengths = problem.queries.lengths
    most = min(candidates_per_token, len(problem.documents.vectors), GPU_MOST_HITS if index.on_gpu else 2**31)

    def answer(query: int, similarities: np.ndarray, hits: np.ndarray) -> Ranking:
        documents = _documents(problem, query, hits)
        if max_candidates is not None and len(documents) > max_candidates:
            approximate = _approximate_scores(problem, documents, similarities, hits)
            documents = np.sort(documents[np.argsort(-approximate, kind="stable")[:max_candidates]])
        return rank(problem, query, documents)

    rankings: list[Ranking] = []
    for queries in _batches(lengths, max(1, HITS // max(1, most))):
        rows = np.concatenate([problem.queries[query] for query in queries]).astype(np.float32)
        with faiss_threads(torch.get_num_threads()):
            found = index.index.search(rows, most) if most and len(rows) else _no_hits(len(rows))
        similarities, hits = (np.split(part, np.cumsum(lengths[queries])[:-1]) for part in found)
        rankings += over_threads(lambda item: answer(*item), zip(queries, similarities, hits, strict=True))
        report(len(queries) / len(problem.queries))
    return rankings


def _documents(problem: Problem, query: int, hits: np.ndarray) -> np.ndarray:
    """Return the documents, each once, that token vectors (L, k) belong to; -1 means no hit."""
    rows = np.unique(hits[hits >= 0])
    documents = np.unique(np.searchsorted(problem.documents.offsets, rows, side="right") - 1)
    return np.asarray(documents[problem.may_find(query, documents)])


def _approximate_scores(
    problem: Problem, documents: np.ndarray, similarities: np.ndarray, hits: np.ndarray
) -> np.ndarray:
    """Approximate MaxSim of documents (n,), ascending, from only the hits (L, k) of a query's tokens, (n,).

    A document without a hit for a token gets the similarity of that token's worst hit, the highest that it can have (as
    in XTR, Lee et al., 2023).
    """
    owners = np.searchsorted(problem.documents.offsets, hits, side="right") - 1
    known = (hits >= 0) & np.isin(owners, documents)
    token, _ = np.nonzero(known)
    worst = np.where(hits >= 0, similarities, np.inf).min(axis=1, initial=np.inf)
    best = np.repeat(np.where(np.isfinite(worst), worst, 0.0)[:, None], len(documents), axis=1)
    np.maximum.at(best, (token, np.searchsorted(documents, owners[known])), similarities[known])
    return np.asarray(best.sum(axis=0))


def _no_hits(rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((rows, 0), np.float32), np.zeros((rows, 0), np.int64)


def _batches(lengths: np.ndarray, rows: int) -> Iterator[list[int]]:
    """Group queries, in their order, into batches of at most ``rows`` token vectors, or of a single query."""
    batch: list[int] = []
    size = 0
    for query, length in enumerate(lengths.tolist()):
        if batch and size + length > rows:
            yield batch
            batch, size = [], 0
        batch.append(query)
        size += length
    if batch:
        yield batch


def training_rows(lists: int) -> int:
    """Return how many token vectors an index with that many inverted lists is trained on, if available."""
    return max(TRAINING_ROWS, TRAINING_ROWS_PER_LIST * lists)


def _sample(store: TokenStore, index: Any) -> np.ndarray:
    inverted = faiss_library().try_extract_index_ivf(index)
    wanted = training_rows(inverted.nlist if inverted else 0)
    total = len(store.vectors)
    chosen = np.random.default_rng(0).choice(total, wanted, replace=False) if total > wanted else np.arange(total)
    return np.asarray(store.vectors[np.sort(chosen)], np.float32)


def _to_gpu(index: Any, device: torch.device) -> tuple[Any, Any]:
    """Return the index on the GPU and its resources, or as it is and None where FAISS cannot put it there."""
    faiss = faiss_library()
    if device.type != "cuda" or not faiss.get_num_gpus():
        return index, None
    resources = faiss.StandardGpuResources()
    try:
        return faiss.index_cpu_to_gpu(resources, device.index or 0, index), resources
    except RuntimeError:
        # Graphs and some codes exist on the CPU only.
        return index, None


@contextmanager
def faiss_threads(number: int) -> Iterator[None]:
    """Let FAISS use this many threads inside the block."""
    faiss = faiss_library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
