"""From the raw records of a source to checked documents, queries and grades.

A reader hands in its records with their numbers; what is wrong is told with the place: file and line, or table and row.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from experiment.collections.collection import Document
from projheads.errors import ProjheadsError

__all__ = ["Records", "read_documents", "read_grade", "read_queries"]

T = TypeVar("T")


@dataclass(frozen=True)
class Records:
    """Records and where they come from.

    Attributes:
        source: What people call the source: the path of a file, the name of a table.
        unit: What the source is counted in: ``"line"`` or ``"row"``.
        rows: The number of each record, and the record. An iterable of one use will do.
    """

    source: str
    unit: str
    rows: Iterable[tuple[int, Any]]

    def place(self, number: int) -> str:
        """Return the place of a record as an error tells it."""
        return f"{self.source} {self.unit} {number}"


def read_documents(records: Records, notes: Counter[str]) -> dict[str, Document]:
    """Read the documents of a corpus, by id, from records with ``_id``, ``title`` and ``text``.

    An id may be a whole number; a missing or null title or text is empty; other fields do not matter. Lone surrogates,
    which no encoding can hold, become U+FFFD and are counted in ``notes`` as ``broken_characters``.

    Raises:
        ProjheadsError: If a record is no object, has no id or the id of another, or a field is no text.
    """

    def read(key: str, record: Mapping[str, Any]) -> Document:
        return Document(key, _read_text(record, "title", notes), _read_text(record, "text", notes))

    return _read_unique(records, read)


def read_queries(records: Records, notes: Counter[str]) -> dict[str, str]:
    """Read the texts of queries, by id, from records with ``_id`` and ``text``; see ``read_documents``."""
    return _read_unique(records, lambda key, record: _read_text(record, "text", notes))


def read_grade(value: Any) -> int:
    """Read a grade: a whole number, also where it is written as 1.0.

    Raises:
        ValueError: If it is not one; the caller knows the place and tells it.
    """
    try:
        grade = float(value)
    except (TypeError, ValueError):
        raise ValueError(f'the grade "{value}" is not a number') from None
    if not grade.is_integer():
        raise ValueError(f'the grade "{value}" is not a whole number')
    return int(grade)


def _read_unique(records: Records, read: Callable[[str, Mapping[str, Any]], T]) -> dict[str, T]:
    found: dict[str, T] = {}
    numbers: dict[str, int] = {}
    for number, record in records.rows:
        try:
            if not isinstance(record, Mapping):
                raise ValueError(f"{json.dumps(record)[:40]} is not a JSON object")
            key = _read_id(record)
            value = read(key, record)
        except ValueError as error:
            raise ProjheadsError(f"{records.place(number)}: {error}") from None
        if key in found:
            first = f"{records.unit} {numbers[key]}"
            raise ProjheadsError(f'{records.place(number)}: the id "{key}" stands on {first} already; ids are unique')
        found[key] = value
        numbers[key] = number
    return found


def _read_id(record: Mapping[str, Any]) -> str:
    value = record.get("_id")
    if value is None or value == "":
        raise ValueError('it has no "_id"')
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f'its "_id" is {json.dumps(value)[:40]}; an id is a string or a whole number')
    return str(value)


def _read_text(record: Mapping[str, Any], field: str, notes: Counter[str]) -> str:
    value = record.get(field)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f'its "{field}" is {json.dumps(value)[:40]}; it must be a string')
    text = str(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        notes["broken_characters"] += sum("\ud800" <= character <= "\udfff" for character in text)
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
