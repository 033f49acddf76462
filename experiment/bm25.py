"""BM25 over the full text of each document, by bm25s: a reference row, and the source of hard negatives."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["BM25_SETTINGS", "bm25_search"]

K1, B = 1.5, 0.75
BM25_SETTINGS = f"bm25s, Lucene's variant, k1={K1}, b={B}, English stemmer and stop words"


def bm25_search(
    queries: Sequence[str],
    documents: Sequence[str],
    *,
    depth: int,
    priority: np.ndarray,
    own: np.ndarray,
    progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rank documents for queries by BM25 (Robertson and Zaragoza, 2009; variants: Kamphuis et al., 2020).

    Documents that share no term with a query are not returned. Scores are float32; ties are broken by priority.

    Args:
        queries: Texts.
        documents: Texts.
        depth: Documents to return per query.
        priority: (n_documents,) int64; among documents of equal score, the higher priority ranks first.
        own: (n_queries,) or (n_queries, n) int64, the documents to leave out of each query's ranking; -1 for none.
        progress: Called with the share of the queries answered since the last call.

    Yields:
        For each query, the documents (n,) int64, best first, and their scores (n,) float32.
    """
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")

    def terms(texts: Sequence[str], **options: Any) -> Any:
        return bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, show_progress=False, **options)

    tokens = terms(documents)
    if not any(len(document) for document in tokens.ids):
        yield from ((np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in queries)
        return
    index = bm25s.BM25(k1=K1, b=B, method="lucene")
    index.index(tokens, show_progress=False)
    for query, words in enumerate(terms(queries, return_ids=False)):
        known = index.get_tokens_ids(words)
        scores = index.get_scores_from_ids(known).astype(np.float32) if known else np.zeros(len(documents), np.float32)
        left_out = np.atleast_1d(own[query])
        scores[left_out[left_out >= 0]] = 0
        found = np.flatnonzero(scores > 0)
        order = np.lexsort((-priority[found], -scores[found]))[:depth]
        yield found[order], scores[found[order]]
        if progress:
            progress(1 / len(queries))
