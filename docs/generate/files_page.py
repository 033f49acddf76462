"""The page of the files: every JSON file of an experiment's folder and its fields, from the records' docstrings."""

from config_page import field_rows
from pydantic import BaseModel
from text import described, prose, table

from experiment.disk.records import (
    EvaluationRecord,
    ExplainRecord,
    QueriesRecord,
    ReferenceRecord,
    RoundsRecord,
    TextsRecord,
    TrainLine,
    TrialRecord,
    WordsRecord,
)
from experiment.fields import sections_in

__all__ = ["files_page"]

_FILES = (
    TrialRecord,
    TrainLine,
    ReferenceRecord,
    EvaluationRecord,
    ExplainRecord,
    QueriesRecord,
    WordsRecord,
    RoundsRecord,
    TextsRecord,
)


def files_page() -> str:
    """Return the page's Markdown."""
    parts = [
        "# Files",
        "The JSON files of an experiment's folder and their fields, made from the code that reads and writes them when "
        "the site is built. A file is written completely or not at all. A field that does not apply is `null`; a "
        "field with a default may be missing from files of an earlier version. A damaged file, or one of a later "
        "version, is refused with its path, the field, and what to do.",
    ]
    for record in _FILES:
        title, _, rest = prose(record.__doc__ or "").partition(": ")
        title = title.replace("\\", "")
        parts += [f"## {title}", rest[:1].upper() + rest[1:], _fields(record)]
        for part in _parts(record):
            parts += [f"### {part.__name__}", prose(part.__doc__ or ""), _fields(part)]
    return "\n\n".join(parts) + "\n"


def _fields(record: type[BaseModel]) -> str:
    """Return the table of a record's fields; one that holds a part names it."""
    rows = field_rows(record, described(record))
    for row, field in zip(rows, record.model_fields.values(), strict=True):
        for part in sections_in(field.annotation):
            row[1] = row[1].replace("section", f"[{part.__name__}](#{part.__name__.lower()})")
    return table(["field", "type", "default", "what it is"], rows)


def _parts(record: type[BaseModel]) -> list[type[BaseModel]]:
    """List the parts of a record, each after what holds it."""
    found: dict[type[BaseModel], None] = {}
    for field in record.model_fields.values():
        for part in sections_in(field.annotation):
            found |= dict.fromkeys([part, *_parts(part)])
    return list(found)
