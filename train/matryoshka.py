"""Matryoshka embeddings: embeddings whose prefixes are embeddings too."""

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.nn import functional

__all__ = ["prefixes"]


def prefixes(queries: Tensor, documents: Tensor, widths: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the token embeddings at each width; a trial's loss is the mean of their losses.

    loss = mean over widths w of  loss(normalize(queries[..., :w]), normalize(documents[..., :w]))
    Source: Matryoshka representation learning, Kusupati et al. (2022), with equal weights.

    Args:
        queries: Token embeddings (..., d) of L2 norm 1.
        documents: Token embeddings (..., d) of L2 norm 1.
        widths: The widths; d means the embeddings unchanged, and so does an empty list.

    Yields:
        Token embeddings (..., w) of queries and of documents, of L2 norm 1.
    """
    for width in widths or [queries.shape[-1]]:
        if width == queries.shape[-1]:
            yield queries, documents
        else:
            yield (
                functional.normalize(queries[..., :width], dim=-1),
                functional.normalize(documents[..., :width], dim=-1),
            )
