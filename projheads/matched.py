"""Products of matched token states, from which the start ``svd`` is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from projheads.errors import ProjheadsError

__all__ = ["MatchedProducts", "matched_products"]

_BATCH = 32


@dataclass(frozen=True)
class MatchedProducts:
    """Means over query tokens, in float64 on the CPU; a token's winner in a document has the largest cosine with it.

    Attributes:
        relevant: (width, width) product of a query token's state and its winner in the relevant document.
        others: (width, width) product with its mean winner in other documents.
        spread: (width, width) second moment of all states.
    """

    relevant: Tensor
    others: Tensor
    spread: Tensor


def matched_products(queries: Sequence[Tensor], documents: Sequence[Tensor]) -> MatchedProducts:
    """Sum the products of matched states; nothing larger than a batch of 32 pairs is held at once.

    Args:
        queries: For each pair, the token states (tokens, width) of its query.
        documents: For each pair, those of its relevant document. The other documents are those of its batch.

    Raises:
        ProjheadsError: If there are fewer than two pairs.
    """
    if len(queries) < 2 or len(queries) != len(documents):
        raise ProjheadsError(f"matched products need at least 2 pairs, got {len(queries)} and {len(documents)} texts")
    width = queries[0].shape[1]
    relevant, others, spread = torch.zeros(3, width, width, dtype=torch.float64)
    tokens = states = 0
    for start in range(0, len(queries), _BATCH):
        if len(queries) - start == 1:
            break  # a batch of one has no other document
        asked = [_normalise(one) for one in queries[start : start + _BATCH]]
        found = [_normalise(one) for one in documents[start : start + _BATCH]]
        for own, query in enumerate(asked):
            winners = torch.stack([document[(query @ document.T).argmax(1)] for document in found])
            relevant += query.T @ winners[own]
            others += query.T @ ((winners.sum(0) - winners[own]) / (len(found) - 1))
            tokens += len(query)
        for one in (*asked, *found):
            spread += one.T @ one
            states += len(one)
    return MatchedProducts(relevant / tokens, others / tokens, spread / states)


def _normalise(states: Tensor) -> Tensor:
    return functional.normalize(states.detach().cpu().double(), dim=-1)
