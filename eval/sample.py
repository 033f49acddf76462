"""The documents that a pass over a corpus fits with, since it never has the vectors of all of them."""

from collections.abc import Collection, Sequence

import numpy as np

__all__ = ["SAMPLE", "draw_sample", "is_sampled"]

SAMPLE = 1024
"""Documents whose token vectors are kept, to fit linear stand-ins and to train the codes of storage forms."""

SEED = 0


def is_sampled(documents: int) -> bool:
    """Return whether a pass fits on a sample of so many documents; otherwise it fits on all of them."""
    return documents > SAMPLE


def draw_sample(document_ids: Sequence[str], judged: Collection[str]) -> list[int]:
    """Draw the places of the documents to fit on, ascending; unjudged ones if there are enough.

    Args:
        document_ids: Ids of the documents, in the order of the corpus.
        judged: Ids of the documents with a judgement.
    """
    drawn = np.random.default_rng(SEED).permutation(len(document_ids))[: 2 * SAMPLE + len(judged)].tolist()
    unjudged = [place for place in drawn if document_ids[place] not in judged]
    return sorted((unjudged if len(unjudged) >= SAMPLE else drawn)[:SAMPLE])
