"""What each kind of retrieval data says about itself; ``experiment.collections.sources`` is the table of them."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from experiment.collections.collection import Collection

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """A kind of retrieval data. Every function takes the part after the colon as ``name``.

    Attributes:
        spelling: How a configuration writes it: ``beir:<name>``, or ``pydocs`` if there is only one.
        about: What it is, for the documentation.
        open: Opens the split ``split`` of ``name``, given the cache folder.
        missing: Checks ``name`` and returns why it is not on this disk yet, or None if it is. Uses no network.
        split: Returns the split by which models are compared.
        label: Returns the name for tables and files, before characters that file names cannot hold are replaced.
        examples: Lists complete spellings, from which error messages suggest one.
        not_for_training: What to train on instead, if the data is only for testing.
        published_without_same_ids: Whether published numbers exclude the document that has a query's id.
    """

    spelling: str
    about: str
    open: Callable[[str, str, Path], Collection]
    missing: Callable[[str, Path], str | None]
    split: Callable[[str], str] = lambda name: "test"
    label: Callable[[str], str] = lambda name: name
    examples: Callable[[], Iterable[str]] = tuple
    not_for_training: str | None = None
    published_without_same_ids: bool = False

    @property
    def scheme(self) -> str:
        """The part before the colon."""
        return self.spelling.partition(":")[0]

    @property
    def takes_name(self) -> bool:
        """Whether a colon and a name follow the scheme."""
        return ":" in self.spelling

    def file_name(self, name: str) -> str:
        """Return ``label`` as the name of a file."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.label(name)).strip("-.") or "dataset"
