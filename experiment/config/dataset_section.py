"""An item of ``eval.datasets``: a collection with one of its splits, or a suite of collections."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidatorFunctionWrapHandler, WrapValidator, field_validator

from experiment.collections.same_ids import ExcludeOwnId
from experiment.collections.sources import check_source, default_name, official_split
from experiment.collections.suites import suite_group, suite_sources
from experiment.fields import Section, safe_name

__all__ = ["DatasetRef", "EvalDataset", "EvalDatasetRef", "expand_suites"]


class DatasetRef(Section):
    """A collection and one of its splits. In YAML a string is short for ``{source: <string>}``.

    Attributes:
        source: ``pydocs``, ``beir:<name>``, ``nano:<name>``, ``mteb:<task>``, ``hf:<repo>[/<config>]``, or a folder in
            BEIR layout.
        split: The split whose judgements are used; for BEIR and NanoBEIR, the one that papers report.
        name: Name in tables and of result files; by default derived from the source.
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
        group: Collections of one group are searched separately, and their mean counts as one data set of this name;
            None for a collection that is a separate data set.
        exclude_own_id: Whether a query never finds the document that has its own id. ``auto`` excludes it in ``beir:``
            and ``nano:`` collections, as BEIR's evaluation does, and elsewhere if its text is the query's; but nothing
            in a collection that judges a query and a document of the same id.
    """

    group: Annotated[str, AfterValidator(safe_name)] | None = None
    exclude_own_id: ExcludeOwnId = "auto"


def _complete(value: Any) -> Any:
    """Fill in the defaults that depend on the source."""
    if isinstance(value, str):
        value = {"source": value}
    if isinstance(value, dict) and isinstance(value.get("source"), str):
        source = value["source"]
        value = {"split": official_split(source), "name": default_name(source), **value}
    return value


def _suite(value: Any) -> str | None:
    """Return the name of the suite that an item refers to, or None for a collection."""
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
    """Replace each suite of a list by its collections."""
    return tuple(ref for item in datasets for ref in (item if isinstance(item, list) else [item]))


EvalDataset = Annotated[EvalDatasetRef, BeforeValidator(_complete), WrapValidator(_one_or_many)]
"""A collection, or a suite, which ``expand_suites`` resolves once the complete list is read."""
