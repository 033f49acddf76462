"""The folder of a pass over a corpus: what each process has found, from which any process can resume.

    <cache>/passes/<data and backbone>/<heads>/
        pass.json             what the pass computes
        chunks/<n>.lock       held by the process that works on chunk n
        parts/<host>-<n>.part which chunks one process has finished, and the best documents in them, in safetensors
        parts/<host>-<n>.lock held by that process

A part is replaced as a whole after each chunk, so a chunk is finished or it never happened. All locks end with their
process, so another one takes over its unfinished chunk, and the next process of that host that starts continues its
part. Nothing but time depends on the locks between hosts: no two hosts write one part, and a chunk that two processes
have finished, as on a file system whose locks do not reach other hosts, counts once.
"""

import itertools
import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.streaming.best import Best
from experiment.disk.files import SCHEMA_VERSION, read_json, remove_leftovers, sha256_json, write_bytes, write_json
from experiment.disk.lock import locked
from projheads.errors import ProjheadsError

__all__ = ["Part", "PassFolder", "Tally"]


@dataclass
class Tally:
    """What a chunk took, or all chunks together.

    Attributes:
        rows: Token vectors of the documents.
        truncated: Documents that lost tokens at the length limit.
        bytes: Bytes of each view's embeddings, (n_views,) int64.
        encode_s: Seconds to encode the documents.
        project_s: Seconds that each view took to compute its embeddings, (n_views,).
        search_s: Seconds that each view took to search, (n_views,).
    """

    rows: int
    truncated: int
    bytes: np.ndarray
    encode_s: float
    project_s: np.ndarray
    search_s: np.ndarray

    @classmethod
    def nothing(cls, views: int) -> "Tally":
        """Return the tally before the first document."""
        return cls(0, 0, np.zeros(views, np.int64), 0.0, np.zeros(views), np.zeros(views))

    def add(self, other: "Tally") -> None:
        """Add the tally of different documents."""
        self.rows += other.rows
        self.truncated += other.truncated
        self.bytes += other.bytes
        self.encode_s += other.encode_s
        self.project_s += other.project_s
        self.search_s += other.search_s


@dataclass
class Part:
    """What one process has found.

    Attributes:
        chunks: What each chunk took that it finished, by its number.
        best: The best documents of its chunks, by view.
        failed: Why a view cannot be computed, by its number.
    """

    chunks: dict[int, Tally]
    best: list[Best]
    failed: dict[int, str] = field(default_factory=dict)

    def copy(self) -> "Part":
        """Return a copy."""
        return Part(dict(self.chunks), [best.copy() for best in self.best], dict(self.failed))


@dataclass(frozen=True)
class PassFolder:
    """A pass over one corpus with one backbone.

    Attributes:
        path: Its folder.
        views: Keys of what is computed; their order is that of the numbers of views.
        chunks: How many chunks the corpus has.
        queries: How many queries there are.
        depth: Documents kept for each query.
    """

    path: Path
    views: tuple[str, ...]
    chunks: int
    queries: int
    depth: int

    @classmethod
    def open(cls, base: Path, views: Sequence[str], chunks: int, queries: int, depth: int) -> "PassFolder":
        """Return the pass that computes exactly these views, or a finished one that computed them too.

        Args:
            base: The folder of all passes over this corpus with this backbone.
            views: Keys of the wanted views, in any order.
            chunks: How many chunks the corpus has.
            queries: How many queries there are.
            depth: Documents kept for each query.
        """
        wanted = tuple(sorted(views))
        folder = cls(base / sha256_json([wanted, chunks, depth])[:16], wanted, chunks, queries, depth)
        for about in sorted(base.glob("*/pass.json")):
            there = _views_in(about)
            other = cls(about.parent, there, chunks, queries, depth)
            if other.path != folder.path and set(wanted) < set(there) and len(other.finished()) == chunks:
                return other
        if not folder.is_there():
            write_json(folder.path / "pass.json", {"schema_version": SCHEMA_VERSION, "views": list(wanted)})
        return folder

    def is_there(self) -> bool:
        """Return whether the pass has been started and its results are still needed."""
        return (self.path / "pass.json").exists()

    def claim(self, chunk: int, *, wait: bool) -> AbstractContextManager[bool]:
        """Hold a chunk for this process; yields whether it is held."""
        return locked(self.path / "chunks" / f"{chunk}.lock", wait=wait)

    def finished(self) -> set[int]:
        """Return the numbers of the finished chunks."""
        from safetensors import safe_open

        found: set[int] = set()
        for file in self._parts():
            with safe_open(file, "np") as part:
                found.update(part.get_tensor("chunks").tolist())
        return found

    def own_part(self, stack: ExitStack) -> tuple[Path, Part]:
        """Take over a part whose process has ended, or start one; it is this process's until the stack is closed."""
        remove_leftovers(self.path / "parts", recursive=False)
        for number in itertools.count():
            held, name = ExitStack(), f"{platform.node()}-{number}"
            if held.enter_context(locked(self.path / "parts" / f"{name}.lock", wait=False)):
                stack.push(held)
                file = self.path / "parts" / f"{name}.part"
                return file, self._read(file) if file.exists() else self._nothing()
            held.close()
        raise AssertionError  # itertools.count does not end.

    def write(self, file: Path, part: Part) -> None:
        """Write a part, completely or not at all.

        Raises:
            ProjheadsError: If the folder was deleted meanwhile.
        """
        from safetensors.numpy import save

        if not self.is_there():
            raise ProjheadsError(f"{self.path}: deleted while in use; run the same command again")
        tallies, views = list(part.chunks.values()), len(self.views)
        seconds = [np.concatenate([[tally.encode_s], tally.project_s, tally.search_s]) for tally in tallies]
        tensors = {
            "chunks": np.array(list(part.chunks), np.int64),
            "counts": np.array([[tally.rows, tally.truncated] for tally in tallies], np.int64).reshape(-1, 2),
            "bytes": np.array([tally.bytes for tally in tallies], np.int64).reshape(-1, views),
            "seconds": np.array(seconds).reshape(-1, 1 + 2 * views),
        }
        for number, best in enumerate(part.best):
            tensors |= {f"documents.{number}": best.documents, f"scores.{number}": best.scores}
        failed = json.dumps({str(number): reason for number, reason in part.failed.items()})
        write_bytes(file, save(tensors, {"failed": failed}))

    def tally(self) -> tuple[Tally, dict[int, str]]:
        """Return the tally of all chunks, and why views failed, by their number.

        Raises:
            ProjheadsError: If chunks are missing.
        """
        chunks, failed = dict[int, Tally](), dict[int, str]()
        for file in self._parts():
            part = self._read(file, views=())
            chunks = part.chunks | chunks
            failed |= part.failed
        if len(chunks) != self.chunks:
            raise ProjheadsError(
                f"{self.path}: {self.chunks - len(chunks)} of {self.chunks} chunks are missing; run the same command "
                "again"
            )
        total = Tally.nothing(len(self.views))
        for number in sorted(chunks):
            total.add(chunks[number])
        return total, failed

    def merged(self, view: int, priority: np.ndarray) -> Best:
        """Return the best documents of a view in all parts."""
        total = Best.nothing(self.queries, self.depth)
        for file in self._parts():
            total.add(total.without_known(self._read(file, views=(view,)).best[0].rankings()), priority)
        return total

    def remove(self) -> None:
        """Delete the pass; processes that still work on it notice that ``pass.json`` is gone."""
        (self.path / "pass.json").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _nothing(self) -> Part:
        return Part({}, [Best.nothing(self.queries, self.depth) for _ in self.views])

    def _parts(self) -> Iterator[Path]:
        return iter(sorted((self.path / "parts").glob("*.part")))

    def _read(self, file: Path, views: Sequence[int] | None = None) -> Part:
        """Read a part; only some of its views if these are given."""
        from safetensors import safe_open

        with safe_open(file, "np") as opened:
            numbers, views_of = opened.get_tensor("chunks").tolist(), len(self.views)
            counts, held, seconds = (opened.get_tensor(name) for name in ("counts", "bytes", "seconds"))
            chunks = {
                number: Tally(
                    int(counts[row, 0]),
                    int(counts[row, 1]),
                    held[row],
                    float(seconds[row, 0]),
                    seconds[row, 1 : 1 + views_of],
                    seconds[row, 1 + views_of :],
                )
                for row, number in enumerate(numbers)
            }
            best = [
                Best(opened.get_tensor(f"documents.{view}"), opened.get_tensor(f"scores.{view}"))
                for view in (range(views_of) if views is None else views)
            ]
            failed: Mapping[str, str] = json.loads(opened.metadata()["failed"])
        return Part(chunks, best, {int(view): reason for view, reason in failed.items()})


def _views_in(about: Path) -> tuple[str, ...]:
    try:
        value: Any = read_json(about)
        return tuple(value["views"])
    except (ProjheadsError, KeyError, TypeError):
        return ()
