"""How the texts of a corpus are divided: windows of texts that are encoded together, and slices of their vectors."""

from collections.abc import Iterator

import numpy as np

__all__ = ["SEARCHED_BYTES", "SLICE", "WINDOW", "text_slices", "text_windows"]

WINDOW = 4096
"""Texts whose batches are made together. A commit follows each window, and an interrupted store resumes from there.
The vectors of a text depend only on its window, so a corpus that is read window by window gets those of its store."""

SLICE = 2**20
"""Token vectors that are projected and searched together."""

SEARCHED_BYTES = 2**28
"""Bytes of document vectors, in float32, that exact search has on the device at once."""


def text_windows(texts: int) -> Iterator[slice]:
    """Yield the windows of a number of texts."""
    for start in range(0, texts, WINDOW):
        yield slice(start, min(start + WINDOW, texts))


def text_slices(offsets: np.ndarray) -> Iterator[slice]:
    """Divide the texts of a store into slices of at most ``SLICE`` token vectors, or one text, none in two windows.

    Args:
        offsets: As in ``TokenStore``.
    """
    for window in text_windows(len(offsets) - 1):
        first = window.start
        while first < window.stop:
            end = int(np.searchsorted(offsets, offsets[first] + SLICE, side="right")) - 1
            last = min(max(first + 1, end), window.stop)
            yield slice(first, last)
            first = last
