"""Fewer token vectors for a document: the means of clusters of similar ones (Clavié, Chaffin and Adams, 2409.14683).

The clusters are those of PyLate and sentence-transformers: Ward's hierarchical clustering of the cosine distances of a
document's token vectors, cut at a number of clusters. The first vector, of the classification token, is kept as it is.
"""

from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from experiment.encoding.store import TokenStore, offsets_of, packed_rows
from experiment.encoding.threads import over_threads

__all__ = ["pool_store", "pool_tokens", "unit_rows"]

PROTECTED = 1
"""First token vectors of a document that are not pooled."""

ROWS = 2**16
"""Token vectors, or those of one document if it has more, that are pooled at a time."""


def pool_tokens(rows: np.ndarray, factor: int, *, scaled: bool) -> np.ndarray:
    """Pool the token vectors of a document.

    Args:
        rows: (n, width) float32, of norm 1.
        factor: How many times fewer to keep, at least 2.
        scaled: Whether to scale the result to norm 1, as sentence-transformers does and PyLate does not.

    Returns:
        (m, width) float32; m is 1 + (n - 1) // factor, or smaller if vectors are equal.
    """
    first, rest = rows[:PROTECTED], rows[PROTECTED:]
    wanted = max(len(rest) // factor, 1)
    if wanted < len(rest):
        inside = torch.tensor(rest)
        distances = (1 - inside @ inside.T).clamp_(0, 2).numpy()
        tree = linkage(squareform(distances, checks=False), "ward")
        _, clusters = np.unique(fcluster(tree, wanted, "maxclust"), return_inverse=True)
        sums = np.zeros((clusters.max() + 1, rest.shape[1]), np.float32)
        np.add.at(sums, clusters, rest)
        rows = np.concatenate([first, sums / np.bincount(clusters)[:, None].astype(np.float32)])
    return unit_rows(rows) if scaled else rows


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Scale vectors (n, width) to norm 1; zeros stay."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny))


def pool_store(
    store: TokenStore, prepare: Callable[[np.ndarray], np.ndarray], factor: int, *, scaled: bool, file: BinaryIO
) -> TokenStore:
    """Pool the token vectors of all texts into a file, in bounded memory.

    Args:
        store: The texts.
        prepare: Applied to token vectors first; returns float32 vectors of norm 1.
        factor: As for ``pool_tokens``.
        scaled: As for ``pool_tokens``.
        file: Where the float32 vectors go.
    """
    lengths, width, first = [], 0, 0
    while first < len(store):
        end = int(np.searchsorted(store.offsets, store.offsets[first] + ROWS, side="right")) - 1
        last = max(first + 1, min(end, len(store)))
        rows = prepare(store.vectors[store.offsets[first] : store.offsets[last]])
        texts = np.split(rows, store.offsets[first + 1 : last] - store.offsets[first])
        pooled = over_threads(lambda text: pool_tokens(text, factor, scaled=scaled), texts)
        for text in pooled:
            file.write(text.tobytes())
        lengths += [len(text) for text in pooled]
        width, first = rows.shape[1], last
    vectors = packed_rows(file, "float32", (sum(lengths), width))
    return TokenStore(vectors, offsets_of(np.array(lengths, np.int64)), store.truncated, store.seconds)
