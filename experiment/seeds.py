"""Independent random streams derived from one seed."""

import hashlib

import numpy as np
import torch

__all__ = ["numpy_generator", "seed_for", "torch_generator"]


def seed_for(seed: int, *stream: str | int) -> int:
    """Derive the seed of a stream; the streams of one seed are independent.

    Args:
        seed: The trial's seed.
        stream: Name of the stream, followed by indices if there is one stream per step, for instance.

    Returns:
        A 63-bit integer.
    """
    text = "/".join(str(part) for part in (seed, *stream))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *stream: str | int) -> torch.Generator:
    """Return a CPU generator at the start of a stream."""
    return torch.Generator().manual_seed(seed_for(seed, *stream))


def numpy_generator(seed: int, *stream: str | int) -> np.random.Generator:
    """Return a numpy generator at the start of a stream."""
    return np.random.default_rng(seed_for(seed, *stream))
