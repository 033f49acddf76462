"""BM25, the reference of every retrieval paper."""

from collections.abc import Callable, Sequence

import numpy as np

from eval.search.ranking import Ranking
from experiment.bm25 import BM25_SETTINGS, bm25_search

__all__ = ["BM25_SETTINGS", "bm25_rankings"]


def bm25_rankings(
    queries: Sequence[str],
    documents: Sequence[str],
    *,
    depth: int,
    priority: np.ndarray,
    own: np.ndarray,
    progress: Callable[[float], None] | None = None,
) -> list[Ranking]:
    """Rank documents by BM25; ``priority`` and ``own`` are those of ``eval.search.ranking.Problem``."""
    found = bm25_search(queries, documents, depth=depth, priority=priority, own=own, progress=progress)
    return [Ranking(*ranking) for ranking in found]
