"""How well a subject's embeddings keep their quality when they are stored in a smaller form.

Documents are written in a form, read back, and searched as usual; the scores are MaxSim with the vectors read back.
Queries, which are not stored, only change their width and are centred; a symmetric code takes them too. The codes are
those of FAISS, see ``experiment.config.storage_forms``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from eval.search.faiss_index import faiss_library, faiss_threads, written_bytes
from eval.search.pooling import pool_store, unit_rows
from experiment.config.storage_forms import CODES, StorageForm, check_storage, parse_storage
from experiment.encoding.store import TokenStore, packed_rows, unnamed_file
from projheads.errors import ProjheadsError

__all__ = ["STORAGE_VERSION", "FormCode", "Stored", "check_forms", "fit_form", "stored_as"]

STORAGE_VERSION = 1
"""Raised when a change to the code changes what a stored form computes; existing entries are then recomputed."""

ROWS = 2**16
"""Token vectors that are written and read back at a time."""

TRAINING_ROWS = 2**14
"""Token vectors, drawn with a fixed seed, that a code is trained on."""


@dataclass(frozen=True)
class Stored:
    """Embeddings as they are read back from a storage form.

    Attributes:
        queries: Embeddings of the form's width, in the data type that they came in.
        documents: Embeddings of the form's width, as read back; float16, whose rounding is far below that of the codes.
        bytes_per_vector: Size of a document's token vector.
        index_bytes: Size of all documents' codes, and of what is needed to decode them.
    """

    queries: TokenStore
    documents: TokenStore
    bytes_per_vector: int
    index_bytes: int


def check_forms(names: Sequence[str], out_features: int) -> list[StorageForm]:
    """Parse the configured forms and check them, before anything is encoded.

    Raises:
        ProjheadsError: If embeddings of ``out_features`` numbers cannot be stored in a form, or FAISS is needed and
            not installed.
    """
    forms = [parse_storage(name) for name in names]
    for form in forms:
        check_storage(form, out_features)
    if any(form.code in CODES for form in forms):
        faiss_library()
    return forms


Change = Callable[[np.ndarray], np.ndarray]
"""Turns stored token vectors into float32 vectors."""


@dataclass(frozen=True)
class FormCode:
    """A form for embeddings of one width, fitted on those of documents.

    Attributes:
        form: The form.
        width: Numbers of a vector that are kept.
        prepare: What is done to token vectors before they are pooled and coded; None for nothing.
        scaled: Whether pooled vectors are scaled to norm 1; see ``pool_tokens``.
        code: The trained FAISS codec; None for float16.
        bytes_per_vector: Size of a document's token vector.
        overhead: Bytes of what is needed to decode them.
    """

    form: StorageForm
    width: int
    prepare: Change | None
    scaled: bool
    code: Any
    bytes_per_vector: int
    overhead: int

    def queries(self, store: TokenStore, file: BinaryIO) -> TokenStore:
        """Return queries as they are searched with, in a file unless they are unchanged."""
        symmetric = self.form.code in CODES and CODES[self.form.code].symmetric
        return self._through(store, self.prepare, self.code if symmetric else None, file, store.vectors.dtype)

    def pooled(self, store: TokenStore, file: BinaryIO) -> TokenStore:
        """Return documents with fewer token vectors, in a file unless they are unchanged."""
        if self.form.pool == 1:
            return store
        return pool_store(store, self.prepare or _float32, self.form.pool, scaled=self.scaled, file=file)

    def read_back(self, pooled: TokenStore, file: BinaryIO) -> TokenStore:
        """Return what ``pooled`` made of documents as it is read back, in a file unless it is unchanged."""
        return self._through(pooled, self.prepare_pooled, self.code, file, np.float16)

    @property
    def prepare_pooled(self) -> Change | None:
        """What is done to pooled vectors before they are coded."""
        return None if self.form.pool > 1 else self.prepare

    def index_bytes(self, vectors: int) -> int:
        """Return the size of the codes of that many vectors, and of what is needed to decode them."""
        return self.bytes_per_vector * vectors + self.overhead

    def _through(self, store: TokenStore, prepare: Change | None, code: Any, file: BinaryIO, dtype: Any) -> TokenStore:
        """Write a store's vectors and read them back, through a file and in bounded memory."""
        if prepare is None and code is None and store.vectors.dtype == dtype:
            return store
        # One thread: FAISS's threads would wait for each other at every small step.
        with nullcontext() if code is None else faiss_threads(1):
            for first in range(0, len(store.vectors), ROWS):
                rows = (prepare or _float32)(store.vectors[first : first + ROWS])
                file.write((rows if code is None else code.sa_decode(code.sa_encode(rows))).astype(dtype).tobytes())
        vectors = packed_rows(file, np.dtype(dtype).name, (len(store.vectors), self.width))
        return TokenStore(vectors, store.offsets, store.truncated, store.seconds)


@contextmanager
def stored_as(
    form: StorageForm, queries: TokenStore, documents: TokenStore, cache: Path, *, scaled: bool = False
) -> Iterator[Stored]:
    """Yield embeddings as they are read back from a form; they are deleted at the end of the block.

    On the CPU the same vectors give the same bytes with any number of threads.

    Args:
        form: The form.
        queries: Embeddings of the queries, of norm 1.
        documents: Embeddings of the documents, of norm 1.
        cache: Folder for temporary files.
        scaled: Whether pooled vectors are scaled to norm 1; see ``pool_tokens``.

    Raises:
        ProjheadsError: If vectors of their width cannot be stored in the form, or there are too few to train its code.
    """
    with ExitStack() as opened:
        files = [opened.enter_context(unnamed_file(cache)) for _ in range(3)]
        code, pooled = fit_form(form, documents, files[0], scaled=scaled)
        read_queries, read_documents = code.queries(queries, files[1]), code.read_back(pooled, files[2])
        yield Stored(read_queries, read_documents, code.bytes_per_vector, code.index_bytes(len(pooled.vectors)))


def fit_form(form: StorageForm, documents: TokenStore, file: BinaryIO, *, scaled: bool) -> tuple[FormCode, TokenStore]:
    """Fit a form on documents; return it, and what its ``pooled`` makes of them in a file. See ``stored_as``."""
    check_storage(form, documents.width)
    width, overhead = form.width or documents.width, 4 * (form.width or documents.width) * form.centred
    fitted = FormCode(form, width, _preparation(form, documents), scaled, None, 2 * width, overhead)
    pooled = fitted.pooled(documents, file)
    if form.code not in CODES:
        return fitted, pooled
    with faiss_threads(1):
        code = _trained(form, pooled, width, fitted.prepare_pooled or _float32)
    size = int(code.sa_code_size())
    return replace(fitted, code=code, bytes_per_vector=size, overhead=overhead + written_bytes(code)), pooled


def _preparation(form: StorageForm, documents: TokenStore) -> Change | None:
    """Return what a form does to token vectors before they are pooled and coded; None for nothing."""
    if not form.centred and form.width in (None, documents.width):
        return None
    cut = partial(_cut, width=form.width or documents.width)
    if not form.centred:
        return cut
    total = np.zeros(form.width or documents.width)
    for first in range(0, len(documents.vectors), ROWS):
        total += cut(documents.vectors[first : first + ROWS]).sum(axis=0, dtype=np.float64)
    mean = (total / max(1, len(documents.vectors))).astype(np.float32)
    return lambda rows: unit_rows(cut(rows) - mean)


def _float32(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows, dtype=np.float32)


def _cut(rows: np.ndarray, width: int) -> np.ndarray:
    """Return the first ``width`` numbers of vectors, float32, scaled to norm 1 if any were cut off."""
    cut = _float32(rows[:, :width])
    return unit_rows(cut) if width < rows.shape[1] else cut


def _trained(form: StorageForm, documents: TokenStore, width: int, prepare: Change) -> Any:
    """Return the trained FAISS codec of a form."""
    code = CODES[form.code].make(faiss_library(), width, form.parts)
    total = len(documents.vectors)
    chosen = np.sort(np.random.default_rng(0).choice(total, min(total, TRAINING_ROWS), replace=False))
    try:
        code.train(prepare(documents.vectors[chosen]))
    except RuntimeError:
        raise ProjheadsError(f'eval.storage "{form.name}": {total} token vectors are too few to train it') from None
    return code
