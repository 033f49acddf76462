"""Texts tokenised once, for all trials and epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from experiment.encoding.canonical import padding_values
from experiment.encoding.store import offsets_of
from projheads.hosts.base import HostModel

__all__ = ["TokenisedTexts", "needed_tokens", "tokenise_once"]

CHUNK = 256
"""Texts tokenised at once."""

SCORING = "scoring"
"""Name of the field that holds the mask of the tokens that take part in MaxSim."""


@dataclass(frozen=True)
class TokenisedTexts:
    """The tokens of many texts, one after the other, without padding.

    Attributes:
        fields: The inputs of the backbone, each (n_tokens,), for instance ``input_ids``, and the mask ``scoring``.
        padding: The padding value of each field.
        offsets: (n_texts + 1,) int64; the tokens of text i are ``offsets[i]`` to ``offsets[i + 1]``.
    """

    fields: Mapping[str, np.ndarray]
    padding: Mapping[str, int]
    offsets: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens per text, (n_texts,) int64."""
        return np.diff(self.offsets)

    def batch(self, indices: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        """Collate texts, padded to the longest.

        Args:
            indices: (B,) indices of texts.

        Returns:
            The input tensors (B, L) of the backbone, and the bool mask (B, L) of the tokens that take part in MaxSim.
        """
        inside = np.arange(self.lengths[indices].max()) < self.lengths[indices][:, None]
        tokens = {}
        for name, values in self.fields.items():
            padded = np.full(inside.shape, self.padding[name], values.dtype)
            padded[inside] = np.concatenate([values[self.offsets[i] : self.offsets[i + 1]] for i in indices])
            tokens[name] = torch.from_numpy(padded)
        scoring = tokens.pop(SCORING)
        return {name: tensor.long() for name, tensor in tokens.items()}, scoring


def needed_tokens(model: HostModel, tokens: Mapping[str, Tensor], *, is_query: bool) -> tuple[Tensor, Tensor]:
    """Return two bool masks (B, L): the tokens that take part in MaxSim, and these plus all tokens attended to."""
    scoring = model.scoring_mask(tokens, is_query=is_query).cpu().bool()
    return scoring, (scoring | tokens["attention_mask"].bool() if "attention_mask" in tokens else scoring)


def tokenise_once(model: HostModel, texts: Sequence[str], *, is_query: bool) -> TokenisedTexts:
    """Tokenise texts as the host does, and drop the padding.

    Args:
        model: The model with the tokenizer.
        texts: The texts; 1 000 000 texts of 100 tokens take 0.7 GB with token types.
        is_query: Whether the texts are queries.
    """
    parts: dict[str, list[np.ndarray]] = {}
    counts = []
    for start in range(0, len(texts), CHUNK):
        tokens = model.tokenize(texts[start : start + CHUNK], is_query=is_query)
        scoring, needed = needed_tokens(model, tokens, is_query=is_query)
        lengths = needed.shape[1] - needed.flip(1).int().argmax(1)
        inside = torch.arange(needed.shape[1]) < lengths[:, None]
        counts.append(lengths.numpy())
        for name, values in {**tokens, SCORING: scoring}.items():
            parts.setdefault(name, []).append(values[inside].numpy().astype(_type_of(name)))
    # The host's padding values are at the end of the shorter of two texts; expanded queries have no padding.
    padded = model.tokenize(["", "one text with some more words than the other"], is_query=is_query)
    return TokenisedTexts(
        fields={name: np.concatenate(chunks) for name, chunks in parts.items()},
        padding=padding_values(padded) | {SCORING: 0},
        offsets=offsets_of(np.concatenate(counts)),
    )


def _type_of(name: str) -> type:
    if name == SCORING:
        return np.bool_
    return np.int8 if name in ("attention_mask", "token_type_ids") else np.int32
