"""How well a subject's embeddings keep their quality when they are stored in a smaller form.

Documents are written in a form, read back, and searched as usual; the scores are MaxSim with the vectors read back.
Queries, which are not stored, only change their width. The codes are those of FAISS, see
``experiment.config.storage_forms``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from eval.search.faiss_index import faiss_library, faiss_threads, written_bytes
from experiment.config.storage_forms import CODES, StorageForm, check_storage, parse_storage
from experiment.encoding.store import TokenStore, packed_rows, unnamed_file
from projheads.errors import ProjheadsError

__all__ = ["STORAGE_VERSION", "FormCode", "Stored", "check_forms", "stored_as", "train_form"]

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


@contextmanager
def stored_as(form: StorageForm, queries: TokenStore, documents: TokenStore, cache: Path) -> Iterator[Stored]:
    """Yield embeddings as they are read back from a form; they are deleted at the end of the block.

    On the CPU the same vectors give the same bytes with any number of threads.

    Args:
        form: The form.
        queries: Embeddings of the queries, of norm 1.
        documents: Embeddings of the documents, of norm 1.
        cache: Folder for temporary files.

    Raises:
        ProjheadsError: If vectors of their width cannot be stored in the form, or there are too few to train its code.
    """
    code = train_form(form, documents)
    with unnamed_file(cache) as query_file, unnamed_file(cache) as document_file:
        read_queries = code.queries(queries, query_file)
        read_documents = code.documents(documents, document_file)
        yield Stored(read_queries, read_documents, code.bytes_per_vector, code.index_bytes(len(documents.vectors)))


@dataclass(frozen=True)
class FormCode:
    """A storage form for embeddings of one width, trained if it needs to be.

    Attributes:
        width: Numbers of a vector that are kept.
        code: The FAISS codec; None for float16.
        bytes_per_vector: Size of a document's token vector.
    """

    width: int
    code: Any
    bytes_per_vector: int

    def queries(self, store: TokenStore, file: BinaryIO) -> TokenStore:
        """Return queries of the form's width, in a file unless they are unchanged."""
        return _through(store, self.width, None, file, store.vectors.dtype)

    def documents(self, store: TokenStore, file: BinaryIO) -> TokenStore:
        """Return documents as they are read back from the form, in a file unless they are unchanged."""
        with nullcontext() if self.code is None else faiss_threads(1):
            return _through(store, self.width, self.code, file)

    def index_bytes(self, vectors: int) -> int:
        """Return the size of the codes of that many vectors, and of what is needed to decode them."""
        return self.bytes_per_vector * vectors + (0 if self.code is None else written_bytes(self.code))


def train_form(form: StorageForm, documents: TokenStore) -> FormCode:
    """Train the code of a form on document embeddings; see ``stored_as``."""
    check_storage(form, documents.width)
    width = form.width or documents.width
    if form.code not in CODES:
        return FormCode(width, None, 2 * width)
    # One thread: FAISS's threads would wait for each other at every small step.
    with faiss_threads(1):
        code = _trained(form, documents, width)
    return FormCode(width, code, int(code.sa_code_size()))


def _through(store: TokenStore, width: int, code: Any, file: BinaryIO, dtype: Any = np.float16) -> TokenStore:
    """Write a store's vectors in a form and read them back, through a file and in bounded memory."""
    if width == store.width and code is None and store.vectors.dtype == dtype:
        return store
    for first in range(0, len(store.vectors), ROWS):
        rows = _cut(store.vectors[first : first + ROWS], width)
        file.write((rows if code is None else code.sa_decode(code.sa_encode(rows))).astype(dtype).tobytes())
    vectors = packed_rows(file, np.dtype(dtype).name, (len(store.vectors), width))
    return TokenStore(vectors, store.offsets, store.truncated, store.seconds)


def _cut(rows: np.ndarray, width: int) -> np.ndarray:
    """Return the first ``width`` numbers of vectors, float32, scaled to norm 1 if any were cut off."""
    cut = np.ascontiguousarray(rows[:, :width], dtype=np.float32)
    if width < rows.shape[1]:
        cut /= np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return cut


def _trained(form: StorageForm, documents: TokenStore, width: int) -> Any:
    """Return the trained FAISS codec of a form."""
    code = CODES[form.code].make(faiss_library(), width, form.parts)
    total = len(documents.vectors)
    chosen = np.sort(np.random.default_rng(0).choice(total, min(total, TRAINING_ROWS), replace=False))
    try:
        code.train(_cut(documents.vectors[chosen], width))
    except RuntimeError:
        raise ProjheadsError(f'eval.storage "{form.name}": {total} token vectors are too few to train it') from None
    return code
