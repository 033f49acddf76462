"""Generates the page of an experiment's JSON files and their fields, from the records' docstrings."""

from config_page import field_rows, models_of
from pydantic import BaseModel
from text import described, prose, table

from experiment.disk.records import EvaluationRecord, ReferenceRecord, TextsRecord, TrainLine, TrialRecord

__all__ = ["files_page"]

_FILES = (TrialRecord, TrainLine, ReferenceRecord, EvaluationRecord, TextsRecord)


def files_page() -> str:
    """Return the page's Markdown."""
    parts = [
        "# Files",
        "The JSON files in an experiment's folder and their fields, generated from the code that reads and writes "
        "them. A file is written completely or not at all. A field that does not apply is `null`; a field with a "
        "default may be missing from files of earlier versions. Reading a damaged file, or one from a later version, "
        "raises an error that gives its path, the field and what to do.",
    ]
    for record in _FILES:
        title, _, rest = prose(record.__doc__ or "").partition(": ")
        heading = title.replace("\\", "")
        parts += [f"## {heading}", _sentence(rest), _fields(record)]
        for part in _parts(record):
            parts += [f"### {part.__name__}", prose(part.__doc__ or ""), _fields(part)]
    return "\n\n".join(parts) + "\n"


def _fields(record: type[BaseModel]) -> str:
    """Return the table of a record's fields, with links to the parts they contain."""
    rows = field_rows(record, described(record))
    for row, field in zip(rows, record.model_fields.values(), strict=True):
        for part in models_of(field.annotation):
            row[1] = row[1].replace("section", f"[{part.__name__}](#{part.__name__.lower()})")
    return table(["field", "type", "default", "description"], rows)


def _parts(record: type[BaseModel]) -> list[type[BaseModel]]:
    """List the parts of a record, each after the one that contains it."""
    found: dict[type[BaseModel], None] = {}
    for field in record.model_fields.values():
        for part in models_of(field.annotation):
            found |= dict.fromkeys([part, *_parts(part)])
    return list(found)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
