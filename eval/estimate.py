"""How long an evaluation will take, guessed from a few texts and one matrix product before it starts."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from experiment.tokens import encode_tokens
from projheads.hosts.base import HostModel

__all__ = ["TextSample", "sample_texts", "seconds_to_search"]

TEXTS = 48
SECONDS_PER_RANKING = 0.006
"""Scoring a query's best documents again and ordering them, on one CPU core."""

SIDE = 1024


@dataclass(frozen=True)
class TextSample:
    """What a few evenly spaced texts tell of all of them: seconds to encode a text, token vectors of a text."""

    seconds: float
    tokens: float


def sample_texts(model: HostModel, texts: Sequence[str], *, is_query: bool, precision: str) -> TextSample:
    """Encode a few evenly spaced texts."""
    count = min(TEXTS, len(texts))
    chosen = [texts[place * len(texts) // count] for place in range(count)]
    encode_tokens(model, chosen[:2], is_query=is_query, project=False, precision=precision)
    started = time.perf_counter()
    store = encode_tokens(model, chosen, is_query=is_query, project=False, precision=precision)
    return TextSample((time.perf_counter() - started) / count, len(store.vectors) / count)


def seconds_to_search(queries: int, multiply_adds: float, device: torch.device) -> float:
    """Guess the time of one search from the machine's speed at matrix products, measured in passing."""
    matrix = torch.ones(SIDE, SIDE, device=device)
    torch.mm(matrix, matrix)
    started = time.perf_counter()
    float(torch.mm(matrix, matrix).sum())
    return multiply_adds * (time.perf_counter() - started) / SIDE**3 + queries * SECONDS_PER_RANKING
