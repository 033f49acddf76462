"""Quick measurements of this machine's speed, for estimates of how long a job takes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from experiment.encoding.tokens import encode_tokens
from projheads.hosts.base import HostModel

__all__ = ["TextSample", "evenly_spaced", "sample_texts", "seconds_of_products"]

TEXTS, TEXTS_PER_THREAD = 24, 8
TOKENS_PER_THREAD = 4096
"""Tokens of a sample for each thread, so that every thread has several batches, however short the texts."""

MOST_TEXTS, SECONDS = 512, 2.0
"""A sample of short texts has so many at most, and takes about so long."""

PRODUCT = (4096, 384, 384)
SHARE_OF_PEAK = 0.5
"""Share of a bare matrix product's speed that a training step reaches."""


@dataclass(frozen=True)
class TextSample:
    """What a sample of evenly spaced texts says about all of them.

    Attributes:
        seconds: Time the backbone takes to encode a text.
        tokens: Token vectors per text.
    """

    seconds: float
    tokens: float


def evenly_spaced(texts: Sequence[str], count: int) -> list[str]:
    """Return a number of texts, evenly spaced, at most all of them."""
    count = min(count, len(texts))
    return [texts[place * len(texts) // count] for place in range(count)]


def sample_texts(model: HostModel, texts: Sequence[str], *, is_query: bool, precision: str) -> TextSample:
    """Encode a few evenly spaced texts with the backbone.

    Args:
        model: The model whose backbone is timed.
        texts: The texts, at least one.
        is_query: Whether they are queries.
        precision: Arithmetic of the backbone: ``fp32``, ``bf16`` or ``fp16``.
    """
    threads = torch.get_num_threads()
    count = min(max(TEXTS, TEXTS_PER_THREAD * threads), len(texts))

    def encode(count: int) -> tuple[float, int]:
        chosen = evenly_spaced(texts, count)
        started = time.perf_counter()
        store = encode_tokens(model, chosen, is_query=is_query, project=False, precision=precision)
        return time.perf_counter() - started, len(store.vectors)

    encode(1)
    seconds, tokens = encode(count)
    larger = int(min(count * TOKENS_PER_THREAD * threads / max(1, tokens), count * SECONDS / seconds, MOST_TEXTS))
    if count < larger:
        count = min(larger, len(texts))
        seconds, tokens = encode(count)
    return TextSample(seconds / count, tokens / count)


def seconds_of_products(multiply_adds: float, device: torch.device) -> float:
    """Estimate the time of work that is mostly matrix products from the measured speed of one."""
    rows, inner, columns = PRODUCT
    left, right = torch.ones(rows, inner, device=device), torch.ones(inner, columns, device=device)
    seconds = []
    for _ in range(4):  # The first warms up.
        started = time.perf_counter()
        float(torch.mm(left, right)[0, 0])
        seconds.append(time.perf_counter() - started)
    return multiply_adds * min(seconds) / (SHARE_OF_PEAK * rows * inner * columns)
