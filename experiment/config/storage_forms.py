"""Forms in which token vectors can be stored: fp16, int8, binary, pq16, dim64, centred, pool2, ...

A form is up to four steps, joined by hyphens in this order, as in ``dim64-centred-pool2-int8``:

- ``dim64`` keeps the first 64 numbers of every vector and scales them to norm 1;
- ``centred`` subtracts the mean of the documents' token vectors from those of documents and queries and scales them to
  norm 1 again;
- ``pool2`` replaces a document's token vectors by half as many: the means of clusters of similar ones;
- a code, such as ``int8`` (a byte a number) or ``pq16`` (16 bytes a vector); half precision without one.

A new code is a new entry of ``CODES``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from projheads.errors import ProjheadsError, did_you_mean

__all__ = ["CODES", "Code", "StorageForm", "check_storage", "parse_storage"]


@dataclass(frozen=True)
class Code:
    """A way to store the numbers of a vector.

    Attributes:
        name: Its name.
        about: What it is, for the documentation.
        make: Makes the untrained FAISS codec (``train``, ``sa_encode``, ``sa_decode``) from the module ``faiss``, the
            width of the vectors and the bytes of a vector.
        takes_bytes: Whether the bytes of a vector follow the name, as in ``pq16``.
        divides: Whether those bytes have to divide the width.
        symmetric: Whether queries are stored in it too.
    """

    name: str
    about: str
    make: Callable[[Any, int, int], Any]
    takes_bytes: bool = False
    divides: bool = False
    symmetric: bool = False

    @property
    def spelling(self) -> str:
        """How the configuration writes it."""
        return f"{self.name}<bytes>" if self.takes_bytes else self.name


def _int8(faiss: Any, width: int, parts: int) -> Any:
    return faiss.index_factory(width, "SQ8")


def _int4(faiss: Any, width: int, parts: int) -> Any:
    return faiss.index_factory(width, "SQ4")


def _binary(faiss: Any, width: int, parts: int) -> Any:
    # FAISS's name for a bit a dimension, its sign, which is read back as 1 or -1.
    return faiss.index_factory(width, "LSH")


def _pq(faiss: Any, width: int, parts: int) -> Any:
    codec = faiss.index_factory(width, f"PQ{parts}np")
    codec.pq.cp.niter = ITERATIONS
    return codec


def _rq(faiss: Any, width: int, parts: int) -> Any:
    codec = faiss.index_factory(width, f"RQ{parts}x8")
    # Plain training and greedy search: FAISS's defaults take tens of times longer for an improvement of a few percent.
    codec.rq.train_type, codec.rq.max_beam_size = faiss.ResidualQuantizer.Train_default, 1
    codec.rq.cp.niter = ITERATIONS
    return codec


ITERATIONS = 10
"""Of k-means."""

_INT8 = "scalar quantiser, a byte for each number, with a range for each dimension"
_INT4 = "scalar quantiser, half a byte for each number, with a range for each dimension"
_BINARY = "the sign of each number, a bit; queries keep their numbers (asymmetric scoring)"
_HAMMING = "the sign of each number of documents and queries; scores count equal signs (Hamming distance)"
_PQ = "product quantiser: the vector in as many parts, 256 centroids for each (Jégou, Douze and Schmid, 2011)"
_RQ = "residual quantiser: as many times 256 centroids of the complete vector (Chen, Guan and Wang, 2010)"

CODES = {
    "int8": Code("int8", _INT8, _int8),
    "int4": Code("int4", _INT4, _int4),
    "binary": Code("binary", _BINARY, _binary),
    "hamming": Code("hamming", _HAMMING, _binary, symmetric=True),
    "pq": Code("pq", _PQ, _pq, takes_bytes=True, divides=True),
    "rq": Code("rq", _RQ, _rq, takes_bytes=True),
}
"""The codes by name, besides ``fp16``, which needs none."""


@dataclass(frozen=True)
class StorageForm:
    """One way to store token vectors.

    Attributes:
        name: The form as the configuration writes it.
        width: Number of leading numbers of a vector that are kept; None for all.
        code: ``fp16``, or one of ``CODES``.
        parts: Bytes of a vector, for codes whose name they follow; otherwise 0.
        centred: Whether the mean of the documents' token vectors is subtracted.
        pool: How many times fewer token vectors of a document are kept; 1 for all.
    """

    name: str
    width: int | None
    code: str
    parts: int
    centred: bool = False
    pool: int = 1

    @property
    def entries(self) -> tuple[str, ...]:
        """The names of its results."""
        return (self.name,)

    @property
    def is_fitted(self) -> bool:
        """Whether it depends on the vectors of other documents: their mean, or a trained code."""
        return self.centred or self.code in CODES

    def keeps(self, width: int) -> bool:
        """Return whether float16 vectors of a width are stored unchanged."""
        return not self.is_fitted and self.pool == 1 and self.width in (None, width)


STEPS = re.compile(r"(?:dim([1-9]\d*)-)?(centred-)?(?:pool([2-9]|[1-9]\d+)-)?(.*)", re.DOTALL)
"""The steps of a name with a hyphen after it."""


def parse_storage(name: str) -> StorageForm:
    """Read the name of a form.

    Raises:
        ProjheadsError: If it is not the name of a form.
    """
    if name == "fp16":
        return StorageForm(name, None, "fp16", 0)
    width, centred, pool, written = STEPS.findall(f"{name}-")[0]
    form = StorageForm(name, int(width) if width else None, "fp16", 0, bool(centred), int(pool or 1))
    if not written:
        return form
    for code in CODES.values():
        if match := re.fullmatch(re.escape(code.name) + (r"([1-9]\d*)-" if code.takes_bytes else "(-)"), written):
            return replace(form, code=code.name, parts=int(match[1]) if code.takes_bytes else 0)
    steps_before = ["dim<width>", "centred", "pool<factor>"]
    spellings = ", ".join(["fp16", *(code.spelling for code in CODES.values()), *steps_before])
    simple = ["fp16", *(code.spelling.replace("<bytes>", "16") for code in CODES.values()), "dim64", "centred", "pool2"]
    examples = [*simple, "dim64-int8", "centred-int8", "centred-binary", "centred-pool2", "pool2-int8"]
    raise ProjheadsError(
        f'unknown storage form "{name}"; write {spellings}, or several, in the order of dim64-centred-pool2-int8'
        f"{did_you_mean(name, examples)}"
    )


def check_storage(form: StorageForm, out_features: int) -> None:
    """Check that vectors of ``out_features`` numbers can be stored in a form.

    Raises:
        ProjheadsError: If they have fewer numbers than it keeps, or its bytes do not divide them.
    """
    width = form.width or out_features
    if width > out_features:
        raise ProjheadsError(f'eval.storage "{form.name}": a token vector has {out_features} numbers, not {width}')
    if form.code in CODES and CODES[form.code].divides and width % form.parts:
        divisors = ", ".join(str(parts) for parts in range(1, width + 1) if width % parts == 0)
        raise ProjheadsError(
            f'eval.storage "{form.name}": {form.parts} parts do not divide a vector of {width} numbers; '
            f"use one of {divisors}"
        )
