"""Texts turned into tokens once, for every trial and every epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from experiment.encoding.store import offsets_of
from projheads.hosts.base import HostModel

__all__ = ["TokenisedTexts", "needed_tokens", "tokenise_once"]

CHUNK = 256
"""Texts that are tokenised at once."""

SCORING = "scoring"
"""Name, among a text's fields, of the mask of the tokens that take part in MaxSim."""


@dataclass(frozen=True)
class TokenisedTexts:
    """The tokens of many texts, one behind the other, without padding.

    Attributes:
        fields: What the backbone reads, each (n_tokens,), for instance ``input_ids``, and the mask ``scoring``.
        padding: What each field is padded with.
        offsets: (n_texts + 1,) int64; the tokens of text i are ``offsets[i]`` to ``offsets[i + 1]``.
    """

    fields: Mapping[str, np.ndarray]
    padding: Mapping[str, int]
    offsets: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, (n_texts,) int64."""
        return np.diff(self.offsets)

    def batch(self, indices: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        """Put texts side by side, padded to the longest of them.

        Args:
            indices: (B,) indices of texts.

        Returns:
            The tensors (B, L) that the backbone reads, and the bool mask (B, L) of the tokens that take part in MaxSim.
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
    """Return the bool masks (B, L) of the tokens that take part in MaxSim, and of those that matter at all.

    A token matters that takes part or that other tokens attend to.
    """
    scoring = model.scoring_mask(tokens, is_query=is_query).cpu().bool()
    return scoring, (scoring | tokens["attention_mask"].bool() if "attention_mask" in tokens else scoring)


def tokenise_once(model: HostModel, texts: Sequence[str], *, is_query: bool) -> TokenisedTexts:
    """Tokenise texts as the host does, and keep of each what lies before its padding.

    Args:
        model: The model whose tokenizer is used.
        texts: The texts; 1 000 000 of 100 tokens take 0.7 GB with token types.
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
    # What the host pads with shows behind the shorter of two texts; queries that are filled up have no padding.
    shown = model.tokenize(["", "one text with some more words than the other"], is_query=is_query)
    return TokenisedTexts(
        fields={name: np.concatenate(chunks) for name, chunks in parts.items()},
        padding={name: int(values[0, -1]) for name, values in shown.items()} | {SCORING: 0},
        offsets=offsets_of(np.concatenate(counts)),
    )


def _type_of(name: str) -> type:
    if name == SCORING:
        return np.bool_
    return np.int8 if name in ("attention_mask", "token_type_ids") else np.int32
