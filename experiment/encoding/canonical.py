"""Canonical batches: a text's vectors depend on the text, not on the texts that it is encoded with.

The kernel of a matrix product is chosen by its shape, and kernels round differently. In a canonical batch the number of
rows follows from the padded length, and that from the text: lengths are rounded up, and missing rows are repeated ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["CanonicalShapes", "padding_ratio", "padding_values"]

MULTIPLE = 16
"""Lengths are rounded up to a multiple of this."""

LONG = 2**14
"""Words of a text that is longer than any length limit."""


class _Tokenizer(Protocol):
    def tokenize(self, texts: Sequence[str], *, is_query: bool) -> dict[str, Tensor]: ...


def padding_values(tokens: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the host's padding value of each field, from the tokens of a short and a longer text."""
    return {name: int(values[0, -1]) for name, values in tokens.items()}


def padding_ratio(lengths: np.ndarray, texts: int, batch_tokens: int) -> float:
    """Return how many tokens a canonical encoding computes for each token of its texts.

    Args:
        lengths: (n,) tokens of some texts, at least one.
        texts: How many such texts are encoded at a time.
        batch_tokens: Tokens per batch.
    """
    some = np.resize(lengths, max(1, texts))
    rounded, counts = np.unique(-(-some // MULTIPLE) * MULTIPLE, return_counts=True)
    rows = np.maximum(1, batch_tokens // np.maximum(1, rounded))
    computed = (-(-counts // rows) * rows * rounded).sum()
    return float(max(1.0, computed / max(1, some.sum())))


@dataclass(frozen=True)
class CanonicalShapes:
    """The shapes of canonical batches.

    Attributes:
        padding: The padding value of each field.
        limit: The length at which texts are truncated; a backbone may have no position beyond it.
    """

    padding: Mapping[str, int]
    limit: int

    @classmethod
    def of(cls, model: _Tokenizer, *, is_query: bool) -> "CanonicalShapes":
        """Return the shapes for the queries or documents of a model."""
        tokens = model.tokenize(["", "a " * LONG], is_query=is_query)
        return cls(padding_values(tokens), next(iter(tokens.values())).shape[1])

    def rounded(self, lengths: Tensor) -> Tensor:
        """Round lengths (B,) up."""
        up = (lengths + MULTIPLE - 1) // MULTIPLE * MULTIPLE
        return torch.maximum(lengths, up.clamp(max=self.limit))

    def padded(self, tokens: Mapping[str, Tensor], length: int) -> dict[str, Tensor]:
        """Pad tensors (B, L) to a length, or leave longer ones as they are."""
        return {
            name: functional.pad(values, (0, max(0, length - values.shape[1])), value=self.padding[name])
            for name, values in tokens.items()
        }
