"""nDCG on the held-out pairs, which decides a sweep."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

__all__ = ["held_out_ndcg", "ndcg"]


def held_out_ndcg(
    scores: Tensor,
    pairs: np.ndarray,
    relevant: Mapping[int, Collection[int]],
    excluded: Mapping[int, Collection[int]],
    cutoff: int = 10,
) -> float:
    """Rank the documents of the held-out pairs for each of their queries.

    Args:
        scores: (m, m) MaxSim of the query of each pair with the document of each pair.
        pairs: (m, 2) indices of a query and of a document relevant to it; each may occur in several pairs.
        relevant: The indices of the relevant documents, by the index of the query.
        excluded: The indices of the documents that a query never finds, by the index of the query.
        cutoff: Rank cutoff.

    Returns:
        The mean over the queries.
    """
    queries, rows = np.unique(pairs[:, 0], return_index=True)
    documents, columns = np.unique(pairs[:, 1], return_index=True)
    judged = np.stack([np.isin(documents, list(relevant[int(query)])) for query in queries])
    hidden = np.stack([np.isin(documents, list(excluded.get(int(query), ()))) for query in queries])
    once = scores.cpu()[torch.from_numpy(rows)][:, torch.from_numpy(columns)]
    once = once.masked_fill(torch.from_numpy(hidden), float("-inf"))
    return float(ndcg(once, torch.from_numpy(judged), cutoff).mean())


def ndcg(scores: Tensor, relevant: Tensor, cutoff: int = 10) -> Tensor:
    """Compute nDCG.

    DCG = sum over the ranks r up to the cutoff of  relevant_r / log2(r + 1); nDCG divides it by the ideal DCG.
    Source: Jarvelin and Kekalainen (2002). Among documents with equal scores, less relevant ones rank first, so a head
    that maps everything to one embedding gains nothing.

    Args:
        scores: (Q, D) score of each document for each query.
        relevant: (Q, D) the gain of each document: bool or a grade of at least 0, with a positive one in each row.
        cutoff: Rank cutoff.

    Returns:
        (Q,) float64.
    """
    gains = relevant.double()
    irrelevant_first = gains.argsort(dim=1, stable=True)
    by_score = scores.gather(1, irrelevant_first).argsort(dim=1, descending=True, stable=True)
    order = irrelevant_first.gather(1, by_score)[:, :cutoff]
    discounts = 1 / torch.log2(torch.arange(2, order.shape[1] + 2, dtype=torch.float64))
    best = gains.sort(dim=1, descending=True).values[:, :cutoff]
    return (gains.gather(1, order) @ discounts) / (best @ discounts)
