"""Which collection is meant, and which of its judgements."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, field_validator

from experiment.collections import check_source
from experiment.config.fields import Section, safe_name

__all__ = ["DatasetRef", "EvalDataset"]


class DatasetRef(Section):
    """A collection and one of its splits. A bare string in the YAML is its ``source``.

    Attributes:
        source: ``pydocs``, ``beir:<name>``, ``hf:<repo>[/<config>]``, or a folder in BEIR layout.
        split: Which judgements are used.
        name: Name in tables and of result files; made from the source where it is not given.
    """

    source: str
    split: str
    name: Annotated[str, AfterValidator(safe_name)]

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        check_source(source)
        return source


def _dataset(split: str) -> BeforeValidator:
    def complete(value: Any) -> Any:
        if isinstance(value, str):
            value = {"source": value}
        if isinstance(value, dict) and isinstance(value.get("source"), str):
            value = {"split": split, "name": _default_name(value["source"]), **value}
        return value

    return BeforeValidator(complete)


def _default_name(source: str) -> str:
    stem = source.split(":", 1)[1] if re.match(r"(beir|hf):", source) else Path(source).name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "dataset"


EvalDataset = Annotated[DatasetRef, _dataset("test")]
