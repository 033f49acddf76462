"""Texts that are identical except for white space, found by their digests: a corpus may have millions of long texts."""

import hashlib
from collections.abc import Iterable

import numpy as np

__all__ = ["repeated_texts", "text_digest"]

DIGEST_BYTES = 16


def text_digest(text: str) -> bytes:
    """Return 16 bytes that are the same for texts that differ only in white space."""
    words = " ".join(text.split())
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def repeated_texts(texts: Iterable[str]) -> list[list[int]]:
    """Return the places of each text that occurs more than once, in order.

    The texts are read once, one after the other, and only their digests are kept.
    """
    digests = np.fromiter(map(text_digest, texts), f"S{DIGEST_BYTES}")
    order = np.argsort(digests, kind="stable")
    first = np.flatnonzero(digests[order[1:]] != digests[order[:-1]]) + 1
    bounds = np.concatenate([[0], first, [len(order)]])
    several = np.flatnonzero(np.diff(bounds) > 1)
    return [order[bounds[group] : bounds[group + 1]].tolist() for group in several.tolist()]
