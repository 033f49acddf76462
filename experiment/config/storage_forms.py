"""Forms in which token vectors can be stored: fp16, int8, pq16, rq16, dim64.

A form is a width, a code, or both: ``dim64`` keeps the first 64 numbers of every vector and scales them to norm 1,
``int8`` takes a byte a number, ``pq16`` and ``rq16`` 16 bytes a vector, and ``dim64-int8`` does one after the other.
"""

import re
from dataclasses import dataclass

from projheads.errors import ProjheadsError, did_you_mean

__all__ = ["StorageForm", "check_storage", "parse_storage"]

EXAMPLES = ("fp16", "int8", "pq16", "rq16", "dim64", "dim64-int8")
PATTERN = re.compile(
    r"fp16|(?:dim(?P<width>[1-9]\d*)(?:-(?=.)|$))?(?P<code>int8|pq(?P<pq>[1-9]\d*)|rq(?P<rq>[1-9]\d*))?"
)


@dataclass(frozen=True)
class StorageForm:
    """One way to store token vectors.

    Attributes:
        name: As the configuration writes it.
        width: Numbers of a vector that are kept, the first ones; None for all.
        code: ``fp16``, ``int8``, ``pq`` (product quantiser) or ``rq`` (residual quantiser).
        parts: Bytes of a vector under ``pq`` and ``rq``; 0 elsewhere.
    """

    name: str
    width: int | None
    code: str
    parts: int


def parse_storage(name: str) -> StorageForm:
    """Read the name of a form.

    Raises:
        ProjheadsError: If it is none.
    """
    found = PATTERN.fullmatch(name)
    if not name or found is None:
        raise ProjheadsError(
            f'unknown storage form "{name}"; write fp16, int8, pq<bytes>, rq<bytes>, dim<width>, or a width and a code '
            f"as in dim64-int8{did_you_mean(name, EXAMPLES)}"
        )
    width = int(found["width"]) if found["width"] else None
    parts = int(found["pq"] or found["rq"] or 0)
    code = "pq" if found["pq"] else "rq" if found["rq"] else found["code"] or "fp16"
    return StorageForm(name, width, code, parts)


def check_storage(form: StorageForm, out_features: int) -> None:
    """Check that vectors of ``out_features`` numbers can be stored in a form.

    Raises:
        ProjheadsError: If they have fewer numbers than it keeps, or its parts do not divide them.
    """
    width = form.width or out_features
    if width > out_features:
        raise ProjheadsError(f'eval.storage "{form.name}": a token vector has {out_features} numbers, not {width}')
    if form.code == "pq" and width % form.parts:
        divisors = ", ".join(str(parts) for parts in range(1, width + 1) if width % parts == 0)
        raise ProjheadsError(
            f'eval.storage "{form.name}": {form.parts} parts do not divide a vector of {width} numbers; '
            f"take one of {divisors}"
        )
