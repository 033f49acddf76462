"""Which collection is meant, and which of its judgements."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidatorFunctionWrapHandler, WrapValidator, field_validator

from experiment.collections import check_source, official_split
from experiment.collections.nano_beir import nano_name
from experiment.collections.suites import suite_group, suite_sources
from experiment.config.fields import Section, safe_name

__all__ = ["DatasetRef", "EvalDataset", "EvalDatasetRef", "expand_suites"]


class DatasetRef(Section):
    """A collection and one of its splits. A bare string in the YAML is its ``source``.

    Attributes:
        source: ``pydocs``, ``beir:<name>``, ``nano:<name>``, ``hf:<repo>[/<config>]``, or a folder in BEIR layout.
        split: Which judgements are used; of BEIR and NanoBEIR those by which models are compared.
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


class EvalDatasetRef(DatasetRef):
    """A collection that models are tested on.

    Attributes:
        group: Collections of one group are searched alone, and their mean counts as one data set of this name; None
            where the collection is a data set by itself.
    """

    group: Annotated[str, AfterValidator(safe_name)] | None = None


def _complete(value: Any) -> Any:
    """Write out what a bare source stands for, with the split by which models are compared."""
    if isinstance(value, str):
        value = {"source": value}
    if isinstance(value, dict) and isinstance(value.get("source"), str):
        source = value["source"]
        value = {"split": official_split(source), "name": _default_name(source), **value}
    return value


def _default_name(source: str) -> str:
    if source.startswith("nano:"):
        return nano_name(source.removeprefix("nano:"))
    stem = source.split(":", 1)[1] if re.match(r"(beir|hf):", source) else Path(source).name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "dataset"


def _suite(value: Any) -> str | None:
    """Return the suite that an item of the list stands for, or None where it stands for one collection."""
    if isinstance(value, dict) and "suite" in value:
        source = f"suite:{value['suite']}"
    else:
        source = str(value.get("source") if isinstance(value, dict) else value)
    source = "suite:cqadupstack" if source == "beir:cqadupstack" else source
    if not source.startswith("suite:"):
        return None
    if isinstance(value, dict) and len(value) > 1:
        raise ValueError("a suite is written {suite: beir}, with no other key; list its data sets to change them")
    return source.removeprefix("suite:")


def _one_or_many(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    suite = _suite(value)
    if suite is None:
        return read(value)
    return [read({"source": source, "group": suite_group(source)}) for source in suite_sources(suite)]


def expand_suites(datasets: tuple[Any, ...]) -> tuple[EvalDatasetRef, ...]:
    """Put the collections of suites in the place where the suite stands."""
    return tuple(ref for item in datasets for ref in (item if isinstance(item, list) else [item]))


EvalDataset = Annotated[EvalDatasetRef, BeforeValidator(_complete), WrapValidator(_one_or_many)]
"""A collection, or a suite, which ``expand_suites`` resolves once the whole list is read."""
