"""Packed token vectors of many texts, in memory or in a folder that survives interruptions.

The folder holds ``vectors.bin`` (the rows), ``lengths.bin`` (rows per text, int64) and ``store.json``, which records
how much of both is safely on disk. Filling resumes from there; anything after it is cut off.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from experiment.disk.files import SCHEMA_VERSION, read_json, write_json
from experiment.disk.lock import locked
from projheads.errors import ProjheadsError

__all__ = ["LENGTH", "Filled", "StoreFolder", "TokenStore", "offsets_of"]

LENGTH = np.dtype("<i8")
"""Data type of ``lengths.bin``."""


@dataclass(frozen=True)
class TokenStore:
    """Packed token vectors of many texts.

    Attributes:
        vectors: (n_tokens, width) float16 or float32, read-only; memory-mapped if the store is on disk.
        offsets: (n_texts + 1,) int64; the rows of text i are ``offsets[i]`` to ``offsets[i + 1]``.
        truncated: Number of texts that lost tokens at the length limit.
        seconds: How long the texts took to encode.
    """

    vectors: np.ndarray
    offsets: np.ndarray
    truncated: int = 0
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, text: int) -> np.ndarray:
        """Return the rows (L, width) of a text."""
        if not 0 <= text < len(self):
            raise IndexError(f"text {text} of {len(self)}")
        return self.vectors[self.offsets[text] : self.offsets[text + 1]]

    @property
    def width(self) -> int:
        """Width of a token vector."""
        return int(self.vectors.shape[1])

    @cached_property
    def lengths(self) -> np.ndarray:
        """Token vectors per text, (n_texts,) int64."""
        return np.diff(self.offsets)


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return where each text's rows start, followed by the end of the last, (n_texts + 1,) int64."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


@dataclass(frozen=True)
class Filled:
    """How much of a store is filled: texts, their rows, how many were truncated, and how long it took."""

    texts: int = 0
    rows: int = 0
    truncated: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class StoreFolder:
    """The folder of a store, complete or partly filled.

    Attributes:
        path: The folder.
        key: What the vectors were computed from; a store with another key counts as absent.
        width: Width of a token vector.
        dtype: ``float16`` or ``float32``.
    """

    path: Path
    key: str
    width: int
    dtype: str

    def filled(self) -> Filled:
        """Return how much is filled: nothing if the files contradict ``store.json``."""
        try:
            state = read_json(self._state)
            if state["key"] != self.key:
                return Filled()
            filled = Filled(**{name: state[name] for name in ("texts", "rows", "truncated", "seconds")})
            complete = all(file.stat().st_size >= size for file, size in self._sizes(filled))
        except (ProjheadsError, FileNotFoundError, KeyError, TypeError):
            return Filled()
        return filled if complete else Filled()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Create the folder and lock it for this process; wait while another process holds it."""
        with locked(self.path / ".lock"):
            yield

    @contextmanager
    def filling(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """Yield the files of vectors and of lengths, truncated to what is safely on disk and positioned at the end."""
        filled = self.filled()
        if not filled.texts:
            # Removed, not emptied: another process may still be reading an older store with a different key.
            for file, _ in self._sizes(filled):
                file.unlink(missing_ok=True)
                file.touch()
        (vectors, vectors_size), (lengths, lengths_size) = self._sizes(filled)
        with vectors.open("r+b") as vectors_file, lengths.open("r+b") as lengths_file:
            for opened, size in ((vectors_file, vectors_size), (lengths_file, lengths_size)):
                opened.truncate(size)
                opened.seek(size)
            yield vectors_file, lengths_file

    def commit(self, filled: Filled, *files: BinaryIO) -> None:
        """Flush the files to disk, then record in ``store.json`` how much is filled."""
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        about = {"schema_version": SCHEMA_VERSION, "key": self.key, "width": self.width, "dtype": self.dtype}
        write_json(self._state, about | asdict(filled))

    def open(self) -> TokenStore:
        """Open the store; its vectors stay on disk."""
        filled = self.filled()
        (vectors, _), (lengths, _) = self._sizes(filled)
        shape = (filled.rows, self.width)
        rows = np.memmap(vectors, self.dtype, "r", shape=shape) if filled.rows else np.zeros(shape, self.dtype)
        counts = np.fromfile(lengths, LENGTH, count=filled.texts) if filled.texts else np.zeros(0, LENGTH)
        return TokenStore(rows, offsets_of(counts), filled.truncated, filled.seconds)

    @property
    def _state(self) -> Path:
        return self.path / "store.json"

    def _sizes(self, filled: Filled) -> tuple[tuple[Path, int], tuple[Path, int]]:
        """Return the two files and their sizes in bytes when this much is filled."""
        vectors = filled.rows * self.width * np.dtype(self.dtype).itemsize
        return (self.path / "vectors.bin", vectors), (self.path / "lengths.bin", filled.texts * LENGTH.itemsize)
