"""Token embeddings of a batch: from stored token states where the backbone is frozen, from the backbone elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiment.tokens import TokenStore
from projheads.hosts.base import HostModel

__all__ = ["Embedder", "FrozenEmbedder", "LiveEmbedder"]


class Embedder(Protocol):
    """Turns indices of texts into token embeddings."""

    def __call__(self, head: nn.Module, indices: np.ndarray, *, is_query: bool) -> tuple[Tensor, Tensor]:
        """Embed texts.

        Args:
            head: The projection head.
            indices: (B,) indices of queries or of documents.
            is_query: Which of both.

        Returns:
            Token embeddings (B, L, out_features) of L2 norm 1, and the bool mask (B, L) of those that take part in
            MaxSim.
        """
        ...


@dataclass(frozen=True)
class FrozenEmbedder:
    """Projects token states that were computed once, without padding; the head sees real tokens only."""

    queries: TokenStore
    documents: TokenStore
    device: torch.device

    def __call__(self, head: nn.Module, indices: np.ndarray, *, is_query: bool) -> tuple[Tensor, Tensor]:
        """See ``Embedder``."""
        store = self.queries if is_query else self.documents
        rows = [store[int(index)] for index in indices]
        states = torch.from_numpy(np.concatenate(rows)).to(self.device).float()
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        embeddings = functional.normalize(head(states).float(), dim=-1)
        mask = torch.arange(int(lengths.max()), device=self.device) < lengths.unsqueeze(1)
        padded = embeddings.new_zeros(mask.numel(), embeddings.shape[-1])
        places = mask.flatten().nonzero().squeeze(1)
        return padded.index_copy(0, places, embeddings).view(*mask.shape, -1), mask


@dataclass(frozen=True)
class LiveEmbedder:
    """Runs the backbone on the texts of each batch."""

    model: HostModel
    queries: Sequence[str]
    documents: Sequence[str]

    def __call__(self, head: nn.Module, indices: np.ndarray, *, is_query: bool) -> tuple[Tensor, Tensor]:
        """See ``Embedder``."""
        texts = self.queries if is_query else self.documents
        tokens = self.model.tokenize([texts[int(index)] for index in indices], is_query=is_query)
        tokens = {name: tensor.to(self.model.device) for name, tensor in tokens.items()}
        embeddings = functional.normalize(head(self.model.token_states(tokens)).float(), dim=-1)
        return embeddings, self.model.scoring_mask(tokens, is_query=is_query)
