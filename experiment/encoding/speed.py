"""Quick measurements of this machine's speed, for estimates of how long a job takes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from experiment.encoding.tokens import TokenStore, encode_tokens
from projheads.hosts.base import HostModel

__all__ = ["TextSample", "evenly_spaced", "fastest", "sample_texts", "seconds_of_products"]

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
        states: The token states of the sample.
    """

    seconds: float
    tokens: float
    states: TokenStore


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

    def encode(count: int) -> tuple[float, TokenStore]:
        chosen = evenly_spaced(texts, count)
        started = time.perf_counter()
        store = encode_tokens(model, chosen, is_query=is_query, project=False, precision=precision)
        return time.perf_counter() - started, store

    encode(1)
    seconds, states = encode(count)
    tokens = max(1, len(states.vectors))
    larger = int(min(count * TOKENS_PER_THREAD * threads / tokens, count * SECONDS / seconds, MOST_TEXTS))
    if count < larger:
        count = min(larger, len(texts))
        seconds, states = encode(count)
    return TextSample(seconds / count, len(states.vectors) / count, states)


def seconds_of_products(multiply_adds: float, device: torch.device) -> float:
    """Estimate the time of work that is mostly matrix products from the measured speed of one."""
    rows, inner, columns = PRODUCT
    left, right = torch.ones(rows, inner, device=device), torch.ones(inner, columns, device=device)
    seconds = fastest(lambda: float(torch.mm(left, right)[0, 0]), 4)
    return multiply_adds * seconds / (SHARE_OF_PEAK * rows * inner * columns)


def fastest(function: Callable[[], object], rounds: int) -> float:
    """Return the seconds of the fastest of several calls; the first one warms up."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
