"""The folder of a pass over a corpus: what each process has found, from which any process can resume.

    <cache>/passes/<data and backbone>/<heads>/
        pass.json             what the pass computes
        chunks/<n>.lock       held by the process that works on chunk n
        parts/<id>.part       which chunks one process has finished, and the best documents in them, in safetensors
        parts/<id>.lock       held by that process

A part is replaced as a whole after each chunk, so a chunk is finished or it never happened. All locks end with their
process, so another one takes over its unfinished chunk, and the next process that starts continues its part.
"""

import itertools
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from copy import deepcopy
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
    """What finished chunks took.

    Attributes:
        chunks: Numbers of the finished chunks.
        rows: Token vectors of their documents.
        truncated: Documents that lost tokens at the length limit.
        bytes: Bytes of each view's embeddings, (n_views,) int64.
        encode_s: Seconds to encode the documents.
        project_s: Seconds that each view took to compute its embeddings.
        search_s: Seconds that each view took to search.
    """

    chunks: list[int]
    rows: int
    truncated: int
    bytes: np.ndarray
    encode_s: float
    project_s: np.ndarray
    search_s: np.ndarray

    @classmethod
    def nothing(cls, views: int) -> "Tally":
        """Return the tally before the first chunk."""
        return cls([], 0, 0, np.zeros(views, np.int64), 0.0, np.zeros(views), np.zeros(views))

    def add(self, other: "Tally") -> None:
        """Add the tally of different chunks."""
        self.chunks += other.chunks
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
        tally: The chunks that it finished.
        best: The best documents of its chunks, by view.
        failed: Why a view cannot be computed, by its number.
    """

    tally: Tally
    best: list[Best]
    failed: dict[int, str] = field(default_factory=dict)

    def copy(self) -> "Part":
        """Return a copy."""
        return Part(deepcopy(self.tally), [best.copy() for best in self.best], dict(self.failed))


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
            held = ExitStack()
            if held.enter_context(locked(self.path / "parts" / f"{number}.lock", wait=False)):
                stack.push(held)
                file = self.path / "parts" / f"{number}.part"
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
        tally = part.tally
        tensors = {
            "chunks": np.array(tally.chunks, np.int64),
            "counts": np.array([tally.rows, tally.truncated], np.int64),
            "bytes": tally.bytes,
            "seconds": np.concatenate([[tally.encode_s], tally.project_s, tally.search_s]),
        }
        for number, best in enumerate(part.best):
            tensors |= {f"documents.{number}": best.documents, f"scores.{number}": best.scores}
        failed = json.dumps({str(number): reason for number, reason in part.failed.items()})
        write_bytes(file, save(tensors, {"failed": failed}))

    def tally(self) -> tuple[Tally, dict[int, str]]:
        """Return the tally of all parts, and why views failed, by their number."""
        total, failed = Tally.nothing(len(self.views)), dict[int, str]()
        for file in self._parts():
            part = self._read(file, views=())
            total.add(part.tally)
            failed |= part.failed
        return total, failed

    def merged(self, view: int, priority: np.ndarray) -> Best:
        """Return the best documents of a view in all parts."""
        total = Best.nothing(self.queries, self.depth)
        for file in self._parts():
            total.add(self._read(file, views=(view,)).best[0].rankings(), priority)
        return total

    def remove(self) -> None:
        """Delete the pass; processes that still work on it notice that ``pass.json`` is gone."""
        (self.path / "pass.json").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _nothing(self) -> Part:
        return Part(Tally.nothing(len(self.views)), [Best.nothing(self.queries, self.depth) for _ in self.views])

    def _parts(self) -> Iterator[Path]:
        return iter(sorted((self.path / "parts").glob("[0-9]*.part")))

    def _read(self, file: Path, views: Sequence[int] | None = None) -> Part:
        """Read a part; only some of its views if these are given."""
        from safetensors import safe_open

        with safe_open(file, "np") as opened:
            (rows, truncated), seconds = opened.get_tensor("counts").tolist(), opened.get_tensor("seconds")
            count = len(self.views)
            tally = Tally(
                opened.get_tensor("chunks").tolist(),
                rows,
                truncated,
                opened.get_tensor("bytes"),
                float(seconds[0]),
                seconds[1 : 1 + count].copy(),
                seconds[1 + count :].copy(),
            )
            best = [
                Best(opened.get_tensor(f"documents.{view}"), opened.get_tensor(f"scores.{view}"))
                for view in (range(count) if views is None else views)
            ]
            failed: Mapping[str, str] = json.loads(opened.metadata()["failed"])
        return Part(tally, best, {int(view): reason for view, reason in failed.items()})


def _views_in(about: Path) -> tuple[str, ...]:
    try:
        value: Any = read_json(about)
        return tuple(value["views"])
    except (ProjheadsError, KeyError, TypeError):
        return ()
