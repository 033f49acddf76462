"""Near-duplicates of earlier texts, found by sketches of their shingles.

Broder, "On the resemblance and containment of documents" (1997): the share of shingles that two texts have in common is
estimated from the smallest hash values of each.
"""

import heapq
import zlib
from collections import Counter, defaultdict

__all__ = ["NearDuplicates"]

SHINGLE_WORDS = 4
SKETCH_VALUES = 32
ALIKE = 0.5
"""Share of common sketch values at which two texts count as duplicates."""


class NearDuplicates:
    """The texts seen so far, as sketches. The same texts in the same order give the same answers on every machine."""

    def __init__(self) -> None:
        self._texts_with: defaultdict[int, list[int]] = defaultdict(list)
        self._sizes: list[int] = []

    def add(self, text: str) -> bool:
        """Keep a text and return True, or return False if it is a near-duplicate of a kept one."""
        sketch = _sketch(text)
        common = Counter(other for value in sketch for other in self._texts_with[value])
        if any(count >= ALIKE * min(len(sketch), self._sizes[other]) for other, count in common.items()):
            return False
        for value in sketch:
            self._texts_with[value].append(len(self._sizes))
        self._sizes.append(len(sketch))
        return True


def _sketch(text: str) -> list[int]:
    """Return the smallest hash values of the text's shingles of four words."""
    words = text.lower().split()
    count = max(1, len(words) - SHINGLE_WORDS + 1)
    shingles = {zlib.crc32(" ".join(words[start : start + SHINGLE_WORDS]).encode()) for start in range(count)}
    return heapq.nsmallest(SKETCH_VALUES, shingles)
