"""How well a subject's embeddings keep their quality when they are stored smaller.

Documents are written in a form, read back, and searched as before; the scores are MaxSim with what was read back. The
queries, which nobody stores, stay as they are but for their width. FAISS holds the codes: int8 is its scalar quantiser
with a range for each dimension, pqM its product quantiser with 256 centroids in each of M parts (Jégou, Douze and
Schmid, 2011), rqM its residual quantiser, M times 256 centroids of the whole vector (Chen, Guan and Wang, 2010).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from eval.search.faiss_index import faiss_library, faiss_threads, written_bytes
from experiment.config.storage_forms import StorageForm, check_storage, parse_storage
from experiment.encoding.store import TokenStore, unnamed_file
from projheads.errors import ProjheadsError

__all__ = ["STORAGE_VERSION", "Stored", "check_forms", "stored_as"]

STORAGE_VERSION = 1
"""Raised when a change to the code changes what a stored form computes; such entries are then made anew."""

ROWS = 2**16
"""Token vectors that are written and read back at once."""

TRAINING_ROWS = 2**14
"""Token vectors, drawn with a fixed seed, that a code is trained on."""

ITERATIONS = 10
"""Of k-means."""


@dataclass(frozen=True)
class Stored:
    """Embeddings as they come back from a form of storage.

    Attributes:
        queries: Of its width; float16.
        documents: Of its width, as read back; float16, whose rounding is far below that of the codes.
        bytes_per_vector: Of a document's token vector.
        index_bytes: All documents' codes, and what is needed to read them.
    """

    queries: TokenStore
    documents: TokenStore
    bytes_per_vector: int
    index_bytes: int


def check_forms(names: Sequence[str], out_features: int) -> list[StorageForm]:
    """Read the configured forms, before anything is encoded.

    Raises:
        ProjheadsError: If embeddings of ``out_features`` numbers cannot be stored so, or FAISS is needed and not
            installed.
    """
    forms = [parse_storage(name) for name in names]
    for form in forms:
        check_storage(form, out_features)
    if any(form.code != "fp16" for form in forms):
        faiss_library()
    return forms


@contextmanager
def stored_as(form: StorageForm, queries: TokenStore, documents: TokenStore, cache: Path) -> Iterator[Stored]:
    """Give embeddings as they come back from a form; they are gone when the block ends.

    The same vectors give the same bytes on the CPU, whatever the number of threads.

    Args:
        form: The form.
        queries: Embeddings of the queries, float16 of norm 1.
        documents: Embeddings of the documents, float16 of norm 1.
        cache: Folder for files on their way.

    Raises:
        ProjheadsError: If vectors of their width cannot be stored so, or there are none to train a code on.
    """
    check_storage(form, documents.width)
    width = form.width or documents.width
    code, size, overhead = None, 2 * width, 0
    with unnamed_file(cache) as query_file, unnamed_file(cache) as document_file:
        read_queries = _through(queries, width, None, query_file)
        if form.code == "fp16":
            read_documents = _through(documents, width, None, document_file)
        else:
            # One thread: FAISS's own would wait for each other at every small step.
            with faiss_threads(1):
                code = _trained(form, documents, width)
                read_documents = _through(documents, width, code, document_file)
            size, overhead = int(code.sa_code_size()), written_bytes(code)
        yield Stored(read_queries, read_documents, size, size * len(documents.vectors) + overhead)


def _through(store: TokenStore, width: int, code: Any, file: BinaryIO) -> TokenStore:
    """Write a store's vectors in a form and read them back, through a file and with bounded memory."""
    if width == store.width and code is None:
        return store
    for first in range(0, len(store.vectors), ROWS):
        rows = _cut(store.vectors[first : first + ROWS], width)
        file.write((rows if code is None else code.sa_decode(code.sa_encode(rows))).astype(np.float16).tobytes())
    file.flush()
    shape = (len(store.vectors), width)
    vectors = np.memmap(file, np.float16, "r", shape=shape) if len(store.vectors) else np.zeros(shape, np.float16)
    return TokenStore(vectors, store.offsets, store.truncated, store.seconds)


def _cut(rows: np.ndarray, width: int) -> np.ndarray:
    """Return the first ``width`` numbers of vectors, float32, scaled to norm 1 where some were left out."""
    cut = np.ascontiguousarray(rows[:, :width], dtype=np.float32)
    if width < rows.shape[1]:
        cut /= np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return cut


def _trained(form: StorageForm, documents: TokenStore, width: int) -> Any:
    """Return a FAISS index without vectors that writes and reads the codes of a form."""
    faiss = faiss_library()
    factory = {"int8": "SQ8", "pq": f"PQ{form.parts}np", "rq": f"RQ{form.parts}x8"}[form.code]
    code = faiss.index_factory(width, factory)
    if form.code == "pq":
        code.pq.cp.niter = ITERATIONS
    if form.code == "rq":
        # The plain training and a greedy search: FAISS's defaults take tens of times longer for a few percent less.
        code.rq.train_type, code.rq.max_beam_size = faiss.ResidualQuantizer.Train_default, 1
        code.rq.cp.niter = ITERATIONS
    total = len(documents.vectors)
    chosen = np.sort(np.random.default_rng(0).choice(total, min(total, TRAINING_ROWS), replace=False))
    try:
        code.train(_cut(documents.vectors[chosen], width))
    except RuntimeError:
        raise ProjheadsError(f'eval.storage "{form.name}": {total} token vectors are too few to train it on') from None
    return code
