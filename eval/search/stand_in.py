"""Token states that the linear stand-in of a head is fitted on."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from experiment.encoding.store import TokenStore

__all__ = ["stand_in_states"]

MOST_STATES = 2**15
"""Of each side: more change a stand-in's directions by less than what it misses."""

LEAST_PER_FEATURE = 10
"""With fewer states than this for each number in a token state, judged documents are taken too."""


def stand_in_states(
    queries: TokenStore, documents: TokenStore, document_ids: Sequence[str], judged: Collection[str]
) -> tuple[Tensor, str]:
    """Choose texts evenly over queries and corpus and return their token states.

    Documents that some query's judgements name are left out, so that the stand-in is fitted on none that is searched
    for; small corpora of which nearly every document is judged have too few others, and then all are taken. Queries
    are needed: their mask tokens are like nothing in a document, and a stand-in of a gated head that was fitted on
    documents alone explained nothing of its query embeddings. What the stand-in imitates is the head; no judgement of a
    query enters.

    Args:
        queries: Token states of the queries.
        documents: Token states of the documents.
        document_ids: Their ids.
        judged: Ids of the documents with a judgement.

    Returns:
        The states (n, width) in float32, texts of both sides evenly mixed, and which they are of.
    """
    unjudged = [place for place, name in enumerate(document_ids) if name not in judged]
    enough = documents.lengths[unjudged].sum() >= LEAST_PER_FEATURE * documents.width
    sides = [(queries, list(range(len(queries)))), (documents, unjudged if enough else list(range(len(documents))))]
    placed = []
    for store, texts in sides:
        stride = max(1, int(np.ceil(store.lengths[texts].sum() / MOST_STATES)))
        chosen = texts[::stride]
        placed += [((number + 0.5) / len(chosen), store[text]) for number, text in enumerate(chosen)]
    rows = [row for _, row in sorted(placed, key=lambda pair: pair[0])]
    states = np.concatenate(rows) if rows else np.zeros((0, documents.width))
    name = "queries and unjudged documents" if enough else "queries and documents"
    return torch.from_numpy(states.astype(np.float32)), name
