"""Descriptions of FAISS indexes, checked before any work is done. FAISS is imported inside functions."""

import re
from typing import Any

from projheads.errors import ProjheadsError

__all__ = ["check_factory", "empty_index", "faiss_library", "faiss_reason"]

MOST = 2**22
"""Largest number in a description: FAISS makes an entry in memory for each inverted list."""


def check_factory(factory: str, width: int, nprobe: int | None, *, key: str = "eval.index") -> None:
    """Check an index description before anything is encoded.

    Raises:
        ProjheadsError: If FAISS is not installed, does not know the description or cannot build it for vectors of this
            width, or if ``nprobe`` is given for an index without inverted lists. The message begins with ``key``.
    """
    empty_index(factory, width, nprobe, key=key)


def empty_index(factory: str, width: int, nprobe: int | None, *, key: str = "eval.index") -> tuple[Any, int | None]:
    """Make an empty index, and return it with the inverted lists that a search visits.

    Raises:
        ProjheadsError: As ``check_factory`` does.
    """
    faiss = faiss_library()
    for number in re.findall(r"[0-9]+", factory):
        if len(number) > 9 or int(number) > MOST:
            raise ProjheadsError(f'{key} "{factory[:60]}": {number[:20]} is too large; use at most {MOST}')
    try:
        index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    except (RuntimeError, TypeError, MemoryError, OverflowError) as error:
        raise ProjheadsError(
            f'{key} "{factory[:60]}": {faiss_reason(error)}; examples: Flat, IVF1024,Flat, HNSW32'
        ) from None
    inverted = faiss.try_extract_index_ivf(index)
    if inverted is None:
        if nprobe is not None:
            raise ProjheadsError(f'eval.nprobe: an index "{factory}" has no inverted lists to visit; remove nprobe')
        return index, None
    inverted.nprobe = min(inverted.nlist, nprobe or max(8, inverted.nlist // 32))
    return index, int(inverted.nprobe)


def faiss_library() -> Any:
    """Import FAISS.

    Raises:
        ProjheadsError: If it is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise ProjheadsError(
            "FAISS is not installed; install faiss-cpu, or set eval.index: exact, remove indexes from eval.searches, "
            "and keep only forms without a code in eval.storage"
        ) from None
    return faiss


def faiss_reason(error: Exception) -> str:
    """Extract the useful part of FAISS's message."""
    text = " ".join(str(error).split())
    return re.sub(r"^Error in .*? at \S+:\d+: (Error: )?('.*?' failed: ?)?", "", text).rstrip(". ") or "cannot be built"
