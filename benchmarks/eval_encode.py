"""Documents per second: ``encode_tokens`` against the host's own ``encode``, with the same texts and model."""

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.eval_data import Texts
from experiment.encoding.device import autocast, resolve_precision
from experiment.encoding.tokens import encode_tokens
from projheads.hosts.base import HostModel

__all__ = ["measure_encoding"]

LAYERS, HIDDEN, INNER = 6, 384, 1536


def measure_encoding(model: HostModel, texts: Texts, rounds: int) -> dict[str, Any]:
    """Alternate between the host's encoding and ours; the fastest round of each counts.

    The host encodes in its own batches of 32 texts; ours writes to a store on disk, as in an evaluation.
    """
    device = model.device
    precisions = dict.fromkeys(["fp32", resolve_precision("auto", device)])
    seconds: dict[str, float] = {}
    model.encode(texts.documents[:32], is_query=False)
    theirs: list[np.ndarray] = []
    for _ in range(rounds):
        for precision in precisions:
            started = time.perf_counter()
            with autocast(device, precision):
                encoded = model.encode(texts.documents, is_query=False)
            theirs = encoded if precision == "fp32" else theirs
            _keep_least(seconds, f"host {precision}", started)
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                _encode(model, texts, precision, Path(folder, "store"))
                _keep_least(seconds, f"ours {precision}", started)
    ours = encode_tokens(model, texts.documents[:100], is_query=False, project=True, dtype="float32")
    floor = _seconds_of_products(_count_tokens(model, texts), device)
    return {
        "host": model.host,
        "documents": len(texts.documents),
        "token_vectors": sum(map(len, theirs)),
        "rounds": rounds,
        "seconds": seconds,
        "documents_per_second": {name: len(texts.documents) / taken for name, taken in seconds.items()},
        "times_faster_than_host_fp32": {name: seconds["host fp32"] / taken for name, taken in seconds.items()},
        "seconds_of_the_bare_products_fp32": floor,
        "largest_possible_ratio_fp32": seconds["host fp32"] / floor,
        "largest_difference": float(np.abs(ours.vectors - np.concatenate(theirs[:100])).max()),
    }


def _encode(model: HostModel, texts: Texts, precision: str, folder: Path) -> None:
    encode_tokens(model, texts.documents, is_query=False, project=True, precision=precision, folder=folder)


def _count_tokens(model: HostModel, texts: Texts) -> int:
    """Count the backbone's input tokens without padding; token vectors are fewer, as they exclude punctuation."""
    return sum(int(model.tokenize([text], is_query=False)["attention_mask"].sum()) for text in texts.documents)


def _keep_least(seconds: dict[str, float], name: str, started: float) -> None:
    seconds[name] = min(seconds.get(name, math.inf), time.perf_counter() - started)


def _seconds_of_products(tokens: int, device: torch.device) -> float:
    """Time only MiniLM's linear layers for this many tokens; no encoder can be faster in fp32."""
    count = 2048 if device.type == "cpu" else 16384
    rows, square, wide, narrow = (
        torch.randn(shape, device=device)
        for shape in ((count, HIDDEN), (HIDDEN, HIDDEN), (INNER, HIDDEN), (HIDDEN, INNER))
    )
    best = math.inf
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(4):
            F.linear(rows, square)
        float(F.linear(F.linear(rows, wide), narrow)[0, 0])  # Waits for the device.
        best = min(best, time.perf_counter() - started)
    return best * LAYERS * tokens / count
