"""Runs: what was found for each query, and the TREC files that store them.

A line of a run file is ``query_id Q0 document_id rank score tag``. Columns are separated by white space, so white space
within an id is percent-encoded as UTF-8 (``%20``), as is a ``%`` that could be mistaken for the start of such a code
(``%25``). Every other id is written unchanged. Reading decodes it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import numpy as np

from experiment.collections.beir_folder import split_tsv
from experiment.disk.files import write_bytes
from projheads.errors import ProjheadsError, cannot_read

if TYPE_CHECKING:  # Scoring a file needs no torch.
    from eval.search.ranking import Ranking

__all__ = [
    "Qrels",
    "Run",
    "decode_id",
    "encode_id",
    "in_trec_order",
    "make_run",
    "read_qrels",
    "read_run",
    "write_qrels",
    "write_run",
]

Run = Mapping[str, Sequence[tuple[str, float]]]
"""Document ids and scores by query id, best first."""

Qrels = Mapping[str, Mapping[str, int]]
"""Grades by query id and document id."""

TAG = "projheads"

WHITE_SPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
CODES = "|".join([*map(quote, WHITE_SPACE), "%25"])
TO_ENCODE = re.compile(f"[{WHITE_SPACE}]|(?={CODES})%")
TO_DECODE = re.compile(CODES)

COLUMN = re.compile(r"[^ \t\v\f\r\n]+")
"""A column, as trec_eval splits lines; other white space may be part of an id."""


def encode_id(name: str) -> str:
    """Encode an id so that it contains no white space; ``decode_id`` reverses it."""
    return TO_ENCODE.sub(lambda found: quote(found.group()), name) if TO_ENCODE.search(name) else name


def decode_id(name: str) -> str:
    """Decode an id that ``encode_id`` encoded."""
    return TO_DECODE.sub(lambda found: unquote(found.group()), name) if "%" in name else name


def make_run(rankings: "Iterable[Ranking]", query_ids: Iterable[str], document_ids: Sequence[str]) -> Run:
    """Name the queries and documents of rankings."""
    return {
        query: [(document_ids[place], float(score)) for place, score in zip(found.documents, found.scores, strict=True)]
        for query, found in zip(query_ids, rankings, strict=True)
    }


def write_run(path: Path, run: Run) -> None:
    """Write a TREC run file atomically.

    Scores are float32 values with all their digits. The lines are in trec_eval's order.
    """
    lines = [
        f"{encode_id(query)} Q0 {encode_id(document)} {rank} {score!r} {TAG}\n"
        for query, found in run.items()
        for rank, (document, score) in enumerate(found, start=1)
    ]
    write_bytes(path, "".join(lines).encode("utf-8"))


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Write judgements as a TREC file with ids spelled as in run files, unless it is there already.

    The second column, which scorers ignore, says that this program wrote the line.
    """
    lines = [
        f"{encode_id(query)} {TAG} {encode_id(document)} {grade}\n"
        for query, judged in qrels.items()
        for document, grade in judged.items()
    ]
    data = "".join(lines).encode("utf-8")
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)


def read_run(path: Path) -> Run:
    """Read any TREC run file, in trec_eval's order: by score as float32, then by id, both descending.

    Ids are decoded if the last column says that this program wrote the line.

    Raises:
        ProjheadsError: If a line does not have six columns, its score is not a number, or it repeats a document.
    """
    found: dict[str, dict[str, float]] = {}
    for number, line in _lines(path):
        columns = COLUMN.findall(line)
        if len(columns) != 6:
            raise ProjheadsError(f"{path} line {number}: a line of a run has 6 columns, not {len(columns)}")
        query, _, document, _, text, tag = columns
        if tag == TAG:
            query, document = decode_id(query), decode_id(document)
        documents = found.setdefault(query, {})
        if document in documents:
            raise ProjheadsError(f'{path} line {number}: query "{query}" lists document "{document}" twice')
        documents[document] = _number(text, f"{path} line {number}: the score")
    return {query: in_trec_order(documents) for query, documents in found.items()}


def in_trec_order(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """Sort documents as trec_eval does, whatever ranks a file states."""
    as_float32 = np.array(list(scores.values()), np.float32).tolist()
    keys = sorted(zip(as_float32, map(encode_id, scores), scores, strict=True), reverse=True)
    return [(name, scores[name]) for _, _, name in keys]


def read_qrels(path: Path) -> Qrels:
    """Read judgements: TREC's four columns, or BEIR's three with or without a header. The last of duplicates counts.

    Ids are decoded if the second of four columns says that this program wrote the line.

    Raises:
        ProjheadsError: If a line is neither, a grade is not an integer, or the file is empty.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        try:
            columns = _judgement(line)
        except ValueError as error:
            raise ProjheadsError(f"{path} line {number}: {error}") from None
        if len(columns) not in (3, 4):
            found = f"{len(columns)} column{'s' if len(columns) > 1 else ''}"
            raise ProjheadsError(f"{path} line {number}: a judgement has 3 columns (BEIR) or 4 (TREC), not {found}")
        query, document, grade = columns[0], columns[-2], columns[-1]
        if number == 1 and len(columns) == 3 and not any(character.isdigit() for character in grade):
            continue  # a header; its column names vary
        value = _number(grade, f"{path} line {number}: the grade")
        if value != int(value):
            raise ProjheadsError(f'{path} line {number}: the grade "{grade}" is not an integer')
        if len(columns) == 4 and columns[1] == TAG:
            query, document = decode_id(query), decode_id(document)
        qrels.setdefault(query, {})[document] = int(value)
    if not qrels:
        raise ProjheadsError(f"{path}: contains no judgements")
    return qrels


def _judgement(line: str) -> list[str]:
    """Split a line as BEIR does, at tabs and with quotes, or as TREC does, at white space."""
    if "\t" in line:
        columns = split_tsv(line)
        if len(columns) == 3:
            return columns
    return COLUMN.findall(line)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise cannot_read(path, error) from None


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ProjheadsError(f'{what} "{text[:40]}" is not a number')
    return value
