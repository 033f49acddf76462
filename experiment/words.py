"""The words of a text, as the diagnostics count them: letters, digits and underscores, in lower case."""

import re
from collections import Counter
from collections.abc import Collection, Iterable

__all__ = ["count_texts", "words_of"]


def words_of(text: str) -> list[str]:
    """Return the words of a text in their order."""
    return re.findall(r"\w+", text.lower())


def count_texts(texts: Iterable[str], wanted: Collection[str] | None = None) -> Counter[str]:
    """Count the texts that have each word, of those that are wanted or of all."""
    found: Counter[str] = Counter()
    for text in texts:
        words = set(words_of(text))
        found.update(words if wanted is None else words.intersection(wanted))
    return found
