"""How the allocator of the C library returns memory to the system."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["returning_large_blocks"]

M_MMAP_THRESHOLD = -3
"""A key of ``mallopt``, from malloc.h."""

LARGE = 2**22
"""Bytes of a block that the system takes back as soon as it is freed."""

OTHERWISE = 2**25
"""What glibc's own threshold, which grows with the blocks that are freed, comes to at most."""


@contextmanager
def returning_large_blocks() -> Iterator[None]:
    """Give large blocks of this process back to the system when they are freed, if its C library is glibc.

    Otherwise, glibc keeps freed blocks of up to 32 MiB for later ones. Those of a pass over a corpus differ in size
    from chunk to chunk, so it would keep more and more that nothing fits into, and memory would grow with the corpus.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        yield
        return
    mallopt(M_MMAP_THRESHOLD, LARGE)
    try:
        yield
    finally:
        mallopt(M_MMAP_THRESHOLD, OTHERWISE)
