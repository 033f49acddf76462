"""A corpus too large for a dictionary: an Arrow file that is mapped into memory and read by batch.

It is written once per source, into the cache. Memory then holds a few numbers for each document, never its text.
"""

import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from experiment.collections.document import Document
from experiment.collections.rows import Records, each_document, repeated_id
from experiment.disk.files import read_json, write_folder, write_json
from experiment.disk.lock import locked
from projheads.errors import ProjheadsError

__all__ = ["LARGE", "LargeCorpus", "open_large_corpus"]

LARGE = 2**26
"""Bytes of a source's corpus beyond which it is kept as an Arrow file."""

BATCH = 2**14
"""Documents read or written at once."""

BATCH_BYTES = 2**25
"""Text of a batch that is written, unless a single document is longer."""

FIELDS = ("id", "title", "text")

T = TypeVar("T")


class LargeCorpus(Mapping[str, Document]):
    """Documents by id, in the order of their source, in a folder that ``open_large_corpus`` wrote.

    Attributes:
        order: (n,) int64, the places of the documents in the order of their ids.
        text_bytes: Bytes of all ids, titles and texts in UTF-8.

    Raises:
        ProjheadsError: If its files are damaged or incomplete.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa

        try:
            self._table = pa.ipc.open_file(pa.memory_map(str(folder / "corpus.arrow"))).read_all()
            self.order, self._hashes, self._places = (
                np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("order", "hashes", "places")
            )
        except (pa.ArrowException, ValueError, EOFError, FileNotFoundError) as error:
            reason = str(error).partition("\n")[0]
            raise ProjheadsError(f"{folder}: damaged ({reason}); delete this folder, and it is written again") from None
        self.text_bytes = int(self._table.nbytes)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._place(name) is not None

    def __getitem__(self, name: str) -> Document:
        place = self._place(name)
        if place is None:
            raise KeyError(name)
        return next(self.at(slice(place, place + 1)))

    def values(self) -> ValuesView[Document]:
        """Return the documents, which are read by batch."""
        return _Documents(self)

    def items(self) -> ItemsView[str, Document]:
        """Return ids and documents, which are read by batch."""
        return _Items(self)

    @property
    def ids(self) -> Sequence[str]:
        """The ids, in the order of the source."""
        return _Texts(self, lambda rows: rows.column("id").to_pylist())

    @property
    def passages(self) -> Sequence[str]:
        """The passages, in the order of the source."""
        return _Texts(self, lambda rows: [document.passage for document in _documents(rows)])

    def in_order_of_ids(self) -> Iterator[Document]:
        """Yield the documents in the order of their ids."""
        batches = self._table.to_batches()
        for first in range(0, len(self), BATCH):
            yield from _taken(batches, np.asarray(self.order[first : first + BATCH]), _documents)

    def at(self, place: slice) -> Iterator[Document]:
        """Yield the documents at a place of the corpus."""
        return _documents(self.rows(place))

    def rows(self, place: slice) -> Any:
        """Return the Arrow table of the documents at a place of the corpus."""
        first, last, _ = place.indices(len(self))
        return self._table.slice(first, max(0, last - first))

    def _place(self, name: str) -> int | None:
        try:
            wanted = id_hash(name)
        except UnicodeEncodeError:
            return None
        first = int(np.searchsorted(self._hashes, wanted))
        while first < len(self._hashes) and self._hashes[first] == wanted:
            place = int(self._places[first])
            if self._table.column("id")[place].as_py() == name:
                return place
            first += 1
        return None


class _Texts(Sequence[str]):
    """One text for each document, read by batch."""

    def __init__(self, corpus: LargeCorpus, read: Any) -> None:
        self._corpus, self._read = corpus, read

    def __len__(self) -> int:
        return len(self._corpus)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            found: list[str] = self._read(self._corpus.rows(place))
            return found
        number = range(len(self))[place]
        return self[slice(number, number + 1)][0]

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), BATCH):
            yield from self[slice(first, first + BATCH)]


class _Documents(ValuesView[Document]):
    def __init__(self, corpus: LargeCorpus) -> None:
        super().__init__(corpus)
        self._corpus = corpus

    def __iter__(self) -> Iterator[Document]:
        for first in range(0, len(self._corpus), BATCH):
            yield from self._corpus.at(slice(first, first + BATCH))


class _Items(ItemsView[str, Document]):
    def __init__(self, corpus: LargeCorpus) -> None:
        super().__init__(corpus)
        self._corpus = corpus

    def __iter__(self) -> Iterator[tuple[str, Document]]:
        return ((document.id, document) for document in self._corpus.values())


def _documents(rows: Any) -> Iterator[Document]:
    return map(Document, *(rows.column(field).to_pylist() for field in FIELDS))


def _taken(batches: Sequence[Any], places: np.ndarray, read: Callable[[Any], Iterable[T]]) -> list[T]:
    """Return what the rows at some places (n,) contain, in their order.

    Arrow would join all batches to take rows from them, and copy the whole corpus.

    Args:
        batches: The record batches of a table.
        places: Places in the table.
        read: Returns what each row of a batch contains.
    """
    by_place, ends = np.argsort(places, kind="stable"), np.cumsum([len(batch) for batch in batches])
    inside = places[by_place]
    cuts = np.searchsorted(inside, ends)
    rows: Iterator[T] = itertools.chain.from_iterable(
        read(batch.take(inside[first:last] - (end - len(batch))))
        for batch, end, first, last in zip(batches, ends, [0, *cuts], cuts, strict=False)
        if first < last
    )
    found = dict(zip(by_place.tolist(), rows, strict=True))
    return [found[number] for number in range(len(places))]


def id_hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), "little")


def open_large_corpus(folder: Path, records: Records, notes: Counter[str]) -> LargeCorpus:
    """Open a corpus in a folder, which is written first if it is not there.

    Args:
        folder: The folder; its name depends on the content of the source.
        records: The records of its source.
        notes: Counts their oddities, see ``read_documents``.

    Raises:
        ProjheadsError: As ``read_documents`` does.
    """
    with locked(folder.parent / f".{folder.name}.lock"):
        if folder.is_dir():
            notes.update(read_json(folder / "notes.json"))
            return LargeCorpus(folder)
        found: Counter[str] = Counter()
        with write_folder(folder) as temporary:
            numbers, hashes = _write_table(temporary / "corpus.arrow", each_document(records, found))
            order = _sorted_places(temporary / "corpus.arrow", numbers, records)
            by_hash = np.argsort(np.frombuffer(hashes, np.uint64), kind="stable")
            np.save(temporary / "order.npy", order)
            np.save(temporary / "hashes.npy", np.frombuffer(hashes, np.uint64)[by_hash])
            np.save(temporary / "places.npy", by_hash)
            write_json(temporary / "notes.json", dict(found))
        notes.update(found)
    return LargeCorpus(folder)


def _write_table(path: Path, documents: Iterable[tuple[int, Document]]) -> "tuple[array[int], array[int]]":
    """Write the documents batch by batch; return their numbers in the source, and the hashes of their ids."""
    import pyarrow as pa

    schema = pa.schema([(field, pa.string()) for field in FIELDS])
    numbers, hashes = array("q"), array("Q")
    batch: list[Document] = []
    size = 0

    def write() -> None:
        columns = [pa.array([getattr(document, field) for document in batch], pa.string()) for field in FIELDS]
        writer.write_batch(pa.record_batch(columns, schema))

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for number, document in documents:
            batch.append(document)
            numbers.append(number)
            hashes.append(id_hash(document.id))
            size += len(document.title) + len(document.text)
            if len(batch) == BATCH or size > BATCH_BYTES:
                write()
                batch, size = [], 0
        if batch:
            write()
    return numbers, hashes


def _sorted_places(path: Path, numbers: "array[int]", records: Records) -> np.ndarray:
    """Return the places of the documents in the order of their ids, and check that these differ."""
    import pyarrow as pa
    import pyarrow.compute

    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    order = np.asarray(pyarrow.compute.sort_indices(table.column("id")).to_numpy(), np.int64)
    batches = table.to_batches()
    for first in range(0, len(order) - 1, BATCH):
        places = order[first : first + BATCH + 1]
        names = _taken(batches, places, lambda rows: rows.column("id").to_pylist())
        for before, (name, following) in enumerate(itertools.pairwise(names)):
            if name == following:
                first_number, again = sorted(numbers[where] for where in places[before : before + 2].tolist())
                raise repeated_id(records, name, first_number, again)
    return order
