"""Token embeddings of a batch: from stored token states if the backbone is frozen, otherwise from the backbone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from projheads.hosts.base import HostModel
from train.embedding.tokenised import TokenisedTexts

__all__ = ["BatchEmbedder", "FrozenEmbedder", "LiveEmbedder", "TextStates", "by_length", "pad"]

PASS_TOKENS = {"cpu": 48, "cuda": 8192, "mps": 1024}
"""Padding tokens that cost about as much as one more forward pass: estimates that affect only speed."""


class BatchEmbedder(Protocol):
    """Computes token embeddings of the texts of a batch."""

    def lengths(self, indices: np.ndarray, *, is_query: bool) -> np.ndarray:
        """Return the number of tokens of each text, (B,) int64."""
        ...

    def passes(self, indices: np.ndarray, *, is_query: bool) -> list[np.ndarray]:
        """Split texts into groups to embed together: positions in ``indices``, in any order."""
        ...

    def __call__(self, head: nn.Module, indices: np.ndarray, *, is_query: bool) -> tuple[Tensor, Tensor]:
        """Embed texts.

        Args:
            head: The projection head.
            indices: (B,) indices of queries or of documents.
            is_query: Whether the texts are queries.

        Returns:
            The embeddings (T, out_features) of the tokens that take part in MaxSim, text after text, with L2 norm 1
            in float32, and their number per text, (B,) int64 on the CPU.
        """
        ...


class TextStates(Protocol):
    """The token states of texts: a ``TokenStore``, or states that come and go."""

    @property
    def lengths(self) -> np.ndarray:
        """Token states of each text, (n_texts,) int64."""
        ...

    def __getitem__(self, text: int) -> np.ndarray:
        """Return the states (L, in_features) of a text."""
        ...


@dataclass(frozen=True)
class FrozenEmbedder:
    """Projects the token states of a frozen backbone, without padding."""

    queries: TextStates
    documents: TextStates
    device: torch.device

    def lengths(self, indices: np.ndarray, *, is_query: bool) -> np.ndarray:
        """See ``BatchEmbedder``."""
        lengths: np.ndarray = (self.queries if is_query else self.documents).lengths[indices]
        return lengths

    def passes(self, indices: np.ndarray, *, is_query: bool) -> list[np.ndarray]:
        """See ``BatchEmbedder``; without padding, all texts go together."""
        return [np.arange(len(indices))]

    def __call__(self, head: nn.Module, indices: np.ndarray, *, is_query: bool) -> tuple[Tensor, Tensor]:
        """See ``BatchEmbedder``."""
        store = self.queries if is_query else self.documents
        rows = [store[int(index)] for index in indices]
        states = torch.from_numpy(np.concatenate(rows)).to(self.device).float()
        return functional.normalize(head(states).float(), dim=-1), torch.tensor([len(row) for row in rows])


@dataclass(frozen=True)
class LiveEmbedder:
    """Runs the backbone on the texts of each batch.

    Attributes:
        model: The model.
        queries: The tokens of the queries.
        documents: The tokens of the documents.
        states: Computes the backbone's output (B, L, in_features) from the texts' indices and tokens; None for the
            model's ``token_states``.
    """

    model: HostModel
    queries: TokenisedTexts
    documents: TokenisedTexts
    states: Callable[[np.ndarray, dict[str, Tensor], bool], Tensor] | None = None

    def lengths(self, indices: np.ndarray, *, is_query: bool) -> np.ndarray:
        """See ``BatchEmbedder``."""
        lengths: np.ndarray = (self.queries if is_query else self.documents).lengths[indices]
        return lengths

    def passes(self, indices: np.ndarray, *, is_query: bool) -> list[np.ndarray]:
        """See ``BatchEmbedder``; texts of similar length go together."""
        return by_length(self.lengths(indices, is_query=is_query), PASS_TOKENS[self.model.device.type])

    def __call__(self, head: nn.Module, indices: np.ndarray, *, is_query: bool) -> tuple[Tensor, Tensor]:
        """See ``BatchEmbedder``."""
        texts = self.queries if is_query else self.documents
        tokens, scoring = texts.batch(indices)
        counts = scoring.sum(1)
        tokens = {name: tensor.to(self.model.device, non_blocking=True) for name, tensor in tokens.items()}
        states = self.states(indices, tokens, is_query) if self.states else self.model.token_states(tokens)
        rows = states[scoring.to(states.device)]
        return functional.normalize(head(rows).float(), dim=-1), counts


def by_length(lengths: np.ndarray, cost: int) -> list[np.ndarray]:
    """Split texts into groups that are each padded to their longest text, with the least total work.

    The work of a group is its number of texts times its longest text, plus ``cost``. The best split of the texts in
    descending order of length is found by dynamic programming.

    Args:
        lengths: (n,) tokens per text.
        cost: Cost of one more group, in tokens.

    Returns:
        The positions of each group, longest texts first.
    """
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    best = np.zeros(len(order) + 1)
    first = np.zeros(len(order) + 1, np.int64)
    for end in range(1, len(order) + 1):
        work = best[:end] + ordered[:end] * (end - np.arange(end)) + cost
        first[end] = work.argmin()
        best[end] = work[first[end]]
    groups = []
    end = len(order)
    while end:
        groups.append(order[first[end] : end])
        end = int(first[end])
    return groups[::-1]


def pad(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Unpack rows into a padded tensor.

    Args:
        rows: (T, d) the rows, text after text.
        counts: (B,) rows per text, on the CPU.

    Returns:
        The rows (B, L, d), padded with zeros, and the bool mask (B, L) that is False for padding.
    """
    counts = counts.to(rows.device)
    mask = torch.arange(int(counts.max()), device=rows.device) < counts.unsqueeze(1)
    padded = rows.new_zeros(mask.numel(), rows.shape[-1])
    places = mask.flatten().nonzero().squeeze(1)
    return padded.index_copy(0, places, rows).view(*mask.shape, -1), mask
