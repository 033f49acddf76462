"""From the raw records of a source to checked documents, queries and grades.

Readers pass their records with numbers, so that errors name the place: file and line, or table and row.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from experiment.collections.document import Document
from projheads.errors import ProjheadsError

__all__ = ["Records", "each_document", "read_documents", "read_grade", "read_queries", "repeated_id"]

T = TypeVar("T")


@dataclass(frozen=True)
class Records:
    """Records, and where they come from.

    Attributes:
        source: The path of a file, or the name of a table.
        unit: What is counted in the source: ``"line"`` or ``"row"``.
        rows: The number of each record, and the record. It is iterated over once.
    """

    source: str
    unit: str
    rows: Iterable[tuple[int, Any]]

    def place(self, number: int) -> str:
        """Return the place of a record, for error messages."""
        return f"{self.source} {self.unit} {number}"


def read_documents(records: Records, notes: Counter[str]) -> dict[str, Document]:
    """Read the documents of a corpus, by id, from records with ``_id``, ``title`` and ``text``.

    An id may be an integer; a missing or null title or text is empty; other fields are ignored. Lone surrogates, which
    UTF-8 cannot encode, become U+FFFD and are counted in ``notes`` as ``broken_characters``.

    Raises:
        ProjheadsError: If a record is not an object, its id is missing or not unique, or a field is not text.
    """
    return _unique(records, ((number, document.id, document) for number, document in each_document(records, notes)))


def each_document(records: Records, notes: Counter[str]) -> Iterator[tuple[int, Document]]:
    """Read the documents of a corpus one after the other, with their numbers; ids may repeat. See ``read_documents``.

    Raises:
        ProjheadsError: If a record is not an object, its id is missing, or a field is not text.
    """

    def read(key: str, record: Mapping[str, Any]) -> Document:
        return Document(key, _read_text(record, "title", notes), _read_text(record, "text", notes))

    return ((number, document) for number, _, document in _each(records, read))


def read_queries(records: Records, notes: Counter[str]) -> dict[str, str]:
    """Read the texts of queries, by id, from records with ``_id`` and ``text``; see ``read_documents``."""
    return _unique(records, _each(records, lambda key, record: _read_text(record, "text", notes)))


def read_grade(value: Any) -> int:
    """Read a grade: an integer, which may be written as 1.0.

    Raises:
        ValueError: If it is not an integer; the caller adds the place.
    """
    try:
        grade = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f'the grade "{str(value)[:40]}" is not a number') from None
    if not grade.is_integer():
        raise ValueError(f'the grade "{str(value)[:40]}" is not an integer')
    return int(grade)


def _each(records: Records, read: Callable[[str, Mapping[str, Any]], T]) -> Iterator[tuple[int, str, T]]:
    """Yield the number of each record, its id, and what ``read`` makes of it."""
    for number, record in records.rows:
        try:
            if not isinstance(record, Mapping):
                raise ValueError(f"{json.dumps(record)[:40]} is not a JSON object")
            key = _read_id(record)
            value = read(key, record)
        except ValueError as error:
            raise ProjheadsError(f"{records.place(number)}: {error}") from None
        yield number, key, value


def _unique(records: Records, values: Iterable[tuple[int, str, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    numbers: dict[str, int] = {}
    for number, key, value in values:
        if key in found:
            raise repeated_id(records, key, numbers[key], number)
        found[key] = value
        numbers[key] = number
    return found


def repeated_id(records: Records, key: str, first: int, again: int) -> ProjheadsError:
    """Return the error of an id that two records have."""
    used = f"{records.unit} {first}"
    return ProjheadsError(f'{records.place(again)}: the id "{key}" is already used on {used}; ids must be unique')


def _read_id(record: Mapping[str, Any]) -> str:
    value = record.get("_id")
    if value is None or value == "":
        raise ValueError('it has no "_id"')
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f'its "_id" is {json.dumps(value)[:40]}; an id must be a string or an integer')
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f'its "_id" {value!a} holds half of a surrogate pair; write a valid id')
    return str(value)


def _read_text(record: Mapping[str, Any], field: str, notes: Counter[str]) -> str:
    value = record.get(field)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f'its "{field}" is {json.dumps(value)[:40]}; it must be a string')
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f'its "{field}" is {json.dumps(value)}; write a string, or null for no text')
    text = str(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        notes["broken_characters"] += sum("\ud800" <= character <= "\udfff" for character in text)
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
