"""Packed token vectors of many texts, in memory or in a folder that survives interruptions.

The folder holds ``vectors.bin`` (the rows), ``lengths.bin`` (rows of each text, int64) and ``store.json``, which says
how much of both is safely on disk and what its checksums are. Filling resumes from there and cuts off the rest.
"""

import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from experiment.disk.files import SCHEMA_VERSION, read_json, remove_paths, write_json
from experiment.disk.lock import is_file_at, locked, open_in
from projheads.errors import ProjheadsError

__all__ = [
    "LENGTH",
    "Filled",
    "StoreFolder",
    "TokenStore",
    "offsets_of",
    "packed_rows",
    "remove_store",
    "unnamed_file",
    "verify_store",
]

LENGTH = np.dtype("<i8")
"""Type of the numbers in ``lengths.bin``."""

CHECKED_AT_ONCE = 2**24
"""Bytes read at once for a checksum."""


@dataclass(frozen=True)
class TokenStore:
    """Packed token vectors of many texts.

    Attributes:
        vectors: (n_tokens, width) float16 or float32, read-only; a memory map if the store is on disk.
        offsets: (n_texts + 1,) int64; the rows of text i are ``offsets[i]`` to ``offsets[i + 1]``.
        truncated: Texts that lost tokens at the length limit.
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

    def at(self, texts: slice) -> "TokenStore":
        """Return consecutive texts, without a copy."""
        offsets = self.offsets[texts.start : texts.stop + 1]
        return TokenStore(self.vectors[offsets[0] : offsets[-1]], offsets - offsets[0])

    @property
    def width(self) -> int:
        """Numbers in a token vector."""
        return int(self.vectors.shape[1])

    @cached_property
    def lengths(self) -> np.ndarray:
        """Token vectors of each text, (n_texts,) int64."""
        return np.diff(self.offsets)


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return where each text's rows begin, followed by the end of the last, (n_texts + 1,) int64."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


@dataclass(frozen=True)
class Filled:
    """How much of a store is there.

    Attributes:
        texts: Texts that are encoded.
        rows: Their token vectors.
        truncated: How many of the texts lost tokens at the length limit.
        seconds: How long they took to encode.
        vectors_crc: CRC-32 of the vectors.
        lengths_crc: CRC-32 of the lengths.
    """

    texts: int = 0
    rows: int = 0
    truncated: int = 0
    seconds: float = 0.0
    vectors_crc: int = 0
    lengths_crc: int = 0


@dataclass(frozen=True)
class StoreFolder:
    """A store's folder, complete or in progress.

    Attributes:
        path: The folder.
        key: What the vectors were computed from; a store with a different key counts as absent.
        width: Numbers in a token vector.
        dtype: ``float16`` or ``float32``.
    """

    path: Path
    key: str
    width: int
    dtype: str

    def filled(self) -> Filled:
        """Return what is there: nothing if the files contradict ``store.json``."""
        expected = {"key": self.key, "width": self.width, "dtype": self.dtype}
        try:
            state = read_json(self._state)
            if {name: state[name] for name in expected} != expected:
                return Filled()
            filled = Filled(**{name: state[name] for name in asdict(Filled())})
            if any(
                type(one) is not type(none) or one < 0
                for one, none in zip(astuple(filled), astuple(Filled()), strict=True)
            ):
                return Filled()
            intact = all(file.stat().st_size >= size for file, size in self._sizes(filled))
        except (ProjheadsError, FileNotFoundError, KeyError, TypeError):
            return Filled()
        return filled if intact else Filled()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder and hold it for this process; wait while another process does.

        Raises:
            ProjheadsError: If the folder is deleted meanwhile.
        """
        with locked(self.path / ".lock"):
            try:
                yield
            except FileNotFoundError as error:
                if error.filename is None or not Path(error.filename).is_relative_to(self.path):
                    raise
                raise self._vanished() from None

    @contextmanager
    def filling(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """Yield the files of vectors and of lengths, cut back to what is safely there and positioned at their ends."""
        filled = self.filled()
        if not filled.texts:
            # Removed, not emptied: another process may still read an older store with a different key.
            for file, _ in self._sizes(filled):
                file.unlink(missing_ok=True)
                file.touch()
        (vectors, vectors_size), (lengths, lengths_size) = self._sizes(filled)
        with vectors.open("r+b") as vectors_file, lengths.open("r+b") as lengths_file:
            for opened, size in ((vectors_file, vectors_size), (lengths_file, lengths_size)):
                opened.truncate(size)
                opened.seek(size)
            yield vectors_file, lengths_file

    def commit(self, filled: Filled, vectors: BinaryIO, lengths: BinaryIO) -> None:
        """Flush the files, and record in ``store.json`` that this much is safely there and what its checksums are.

        Raises:
            ProjheadsError: If the files were deleted meanwhile.
        """
        before, sums = self.filled(), []
        (_, rows), (_, counts) = self._sizes(before)
        summed = (rows, before.vectors_crc), (counts, before.lengths_crc)
        for file, (path, size), (first, crc) in zip((vectors, lengths), self._sizes(filled), summed, strict=True):
            file.flush()
            os.fsync(file.fileno())
            if not is_file_at(file, path):
                raise self._vanished()
            sums.append(_checksum(file, first, size, crc))
        filled = replace(filled, vectors_crc=sums[0], lengths_crc=sums[1])
        about = {"schema_version": SCHEMA_VERSION, "key": self.key, "width": self.width, "dtype": self.dtype}
        write_json(self._state, about | asdict(filled))

    def open(self, texts: int) -> TokenStore:
        """Open the complete store and verify its checksums; its vectors stay on disk.

        Args:
            texts: How many texts it must hold.

        Raises:
            ProjheadsError: If it does not hold them, or is damaged.
        """
        filled = self.filled()
        if filled.texts != texts:
            raise self._vanished()
        (vectors_path, vectors_size), (lengths_path, lengths_size) = self._sizes(filled)
        shape = (filled.rows, self.width)
        rows, counts = np.zeros(shape, self.dtype), np.zeros(0, LENGTH)
        if texts:
            with vectors_path.open("rb") as vectors, lengths_path.open("rb") as lengths:
                for file, path, size, crc in (
                    (vectors, vectors_path, vectors_size, filled.vectors_crc),
                    (lengths, lengths_path, lengths_size, filled.lengths_crc),
                ):
                    if _checksum(file, 0, size, 0) != crc:
                        raise ProjheadsError(
                            f"{path}: damaged (its checksum differs from store.json); delete {self.path} and run the "
                            "same command again"
                        )
                counts = np.fromfile(lengths, LENGTH, count=texts)
                if filled.rows:
                    rows = np.memmap(vectors, self.dtype, "r", shape=shape)
        return TokenStore(rows, offsets_of(counts), filled.truncated, filled.seconds)

    @property
    def _state(self) -> Path:
        return self.path / "store.json"

    def _sizes(self, filled: Filled) -> tuple[tuple[Path, int], tuple[Path, int]]:
        """Return the two files and the bytes that they hold when this much is there."""
        vectors = filled.rows * self.width * np.dtype(self.dtype).itemsize
        return (self.path / "vectors.bin", vectors), (self.path / "lengths.bin", filled.texts * LENGTH.itemsize)

    def _vanished(self) -> ProjheadsError:
        return ProjheadsError(
            f"{self.path}: deleted or changed while in use; run the same command again, and leave the cache alone "
            "while it runs"
        )


def verify_store(path: Path) -> None:
    """Check what is in a store's folder against its checksums.

    Raises:
        ProjheadsError: If it is damaged.
    """
    with locked(path / ".lock"):
        state = read_json(path / "store.json")
        if not isinstance(state, dict) or not {"key", "width", "dtype", "texts", "vectors_crc"} <= state.keys():
            return  # Of an older version: it counts as absent.
        if type(state["width"]) is not int or state["dtype"] not in ("float16", "float32"):
            raise ProjheadsError(f"{path / 'store.json'}: damaged; delete {path} and run the same command again")
        StoreFolder(path, state["key"], state["width"], state["dtype"]).open(state["texts"])


def remove_store(path: Path, *, wait: bool = True) -> None:
    """Delete a store's folder, and its parent if that is empty then.

    While another process fills the store, wait for it, or leave the store to it.
    """
    lock = path / ".lock"
    with locked(lock, wait=wait) as held:
        if not held:
            return
        # The lock goes last: once it is gone, another process may make the folder again and fill it.
        remove_paths(file for file in path.iterdir() if file != lock)
        lock.unlink(missing_ok=True)
    for folder in (path, path.parent):
        with suppress(OSError):
            folder.rmdir()


def unnamed_file(folder: Path) -> BinaryIO:
    """Open a temporary file that the system removes however the process ends, in a folder that is made if needed."""
    return cast(BinaryIO, open_in(folder, lambda: tempfile.TemporaryFile(dir=folder)))


def packed_rows(file: BinaryIO, dtype: str, shape: tuple[int, int]) -> np.ndarray:
    """Return the rows that a file holds: a memory map, or a view of an ``io.BytesIO``."""
    if isinstance(file, io.BytesIO) or not shape[0]:
        held = file.getbuffer().toreadonly() if isinstance(file, io.BytesIO) else b""
        return np.frombuffer(held, dtype).reshape(shape)
    file.flush()
    return np.memmap(file, dtype, "r", shape=shape)


def _checksum(file: BinaryIO, first: int, end: int, crc: int) -> int:
    """Continue a CRC-32 over the bytes of a file from ``first`` to ``end``; its position stays."""
    while first < end:
        block = os.pread(file.fileno(), min(CHECKED_AT_ONCE, end - first), first)
        if not block:
            break
        crc, first = zlib.crc32(block, crc), first + len(block)
    return crc
