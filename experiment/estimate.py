"""Roughly how long a job will take, from a second of measurement on this machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from experiment.tokens import encode_tokens
from projheads.hosts.base import HostModel

__all__ = ["Speed", "human_time", "measure_speed"]

SAMPLE = 16
PRODUCT = (4096, 384, 384)
BACKWARD = 2.0
"""A backward pass costs about twice its forward pass."""
EFFICIENCY = 0.6
"""Share of a bare matrix product's speed that a whole training step or search reaches."""


@dataclass(frozen=True)
class Speed:
    """What this machine does with this model.

    Attributes:
        texts_per_s: Texts of the sample's length that the backbone encodes in a second.
        tokens_per_text: Mean scoring tokens of a text of the sample.
        multiply_adds_per_s: Multiply-adds of matrix products in a second.
    """

    texts_per_s: float
    tokens_per_text: float
    multiply_adds_per_s: float

    def encoding_s(self, texts: int) -> float:
        """Seconds that the backbone takes for this many texts."""
        return texts / self.texts_per_s

    def products_s(self, multiply_adds: float) -> float:
        """Seconds that work of this many multiply-adds takes."""
        return multiply_adds / (EFFICIENCY * self.multiply_adds_per_s)

    def training_s(self, texts: int, head_multiply_adds: int, scoring_multiply_adds: float, *, backbone: bool) -> float:
        """Seconds of training over this many texts, counting a text once for each time that it is seen.

        Args:
            texts: Queries and documents.
            head_multiply_adds: Multiply-adds of the head for one token.
            scoring_multiply_adds: Multiply-adds of all MaxSim products, forward only.
            backbone: Whether the backbone is trained too.
        """
        head = (1 + BACKWARD) * texts * self.tokens_per_text * head_multiply_adds
        seconds = self.products_s(head + scoring_multiply_adds)
        return seconds + ((1 + BACKWARD) * self.encoding_s(texts) if backbone else 0.0)


def measure_speed(model: HostModel, texts: Sequence[str], *, is_query: bool, precision: str) -> Speed:
    """Encode a few texts and multiply a few matrices.

    Args:
        model: The model whose backbone is measured.
        texts: Texts; a sample spread evenly over them is encoded.
        is_query: Whether they are queries.
        precision: Arithmetic of the backbone: ``fp32``, ``bf16`` or ``fp16``.
    """
    sample = [texts[index * len(texts) // SAMPLE] for index in range(min(SAMPLE, len(texts)))]

    def encode() -> int:
        store = encode_tokens(model, sample, is_query=is_query, project=False, precision=precision)  # type: ignore[arg-type]
        return len(store.vectors)

    rows, inner, columns = PRODUCT
    left = torch.ones(rows, inner, device=model.device)
    right = torch.ones(inner, columns, device=model.device)
    tokens = encode()
    encode_s = _best_of(2, encode, model.device)
    product_s = _best_of(5, lambda: left @ right, model.device)
    return Speed(len(sample) / encode_s, tokens / len(sample), rows * inner * columns / product_s)


def _best_of(times: int, work: Callable[[], object], device: torch.device) -> float:
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best


def human_time(seconds: float) -> str:
    """Write a duration as people do: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
