"""The section ``train.validation`` of an experiment's YAML: development queries, by which a sweep chooses."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PlainSerializer, StrictInt, field_validator, model_validator

from experiment.collections.same_ids import ExcludeOwnId
from experiment.collections.sources import check_source, official_split
from experiment.config.train_data_section import TrainDataConfig
from experiment.fields import Count, Section

__all__ = ["Validation", "ValidationConfig", "with_sources"]


class ValidationConfig(Section):
    """Development queries, ranked over their corpus at each validation; a sweep then chooses by them.

    Attributes:
        source: A collection, written as in ``eval.datasets``; None for that of ``train.data``.
        split: The split whose judgements are used; by default ``dev``, or for a different source the split by which
            models are compared.
        max_queries: Maximum number of queries, drawn once for the experiment; None for all of them.
        max_documents: Maximum number of documents that are ranked. A larger corpus is reduced to the judged documents
            of the queries and randomly drawn ones, the same for every trial; None ranks the full corpus.
        exclude_own_id: As in ``eval.datasets``.
    """

    source: str | None = None
    split: str
    max_queries: Count | None = 200
    max_documents: Annotated[StrictInt, Field(ge=2)] | None = 5000
    exclude_own_id: ExcludeOwnId = "auto"

    def __str__(self) -> str:
        """Name the data at the beginning of a message about it."""
        return f"{self.source} ({self.split})"

    @field_validator("source")
    @classmethod
    def _known(cls, source: str | None) -> str | None:
        if source is not None:
            check_source(source)
        return source

    def within(self, data: TrainDataConfig) -> Self:
        """Fill in the collection of the training data.

        Raises:
            ValueError: If no collection is named, or it is what is trained on.
        """
        source = data.source if self.source is None else self.source
        if source is None:
            raise ValueError("validation: set `source`; train.data has no single collection to take a split of")
        if any((part.source, part.split) == (source, self.split) for part in data.parts):
            raise ValueError(f"validation: the split {self.split} of {source} is trained on; name a different split")
        return self.model_copy(update={"source": source})

    @model_validator(mode="before")
    @classmethod
    def _with_split(cls, values: Any) -> Any:
        if isinstance(values, dict):
            source = values.get("source")
            return {"split": official_split(source) if isinstance(source, str) else "dev", **values}
        return values


def with_sources(validation: tuple[ValidationConfig, ...], data: TrainDataConfig) -> tuple[ValidationConfig, ...]:
    """Fill in the collection of the training data where none is named.

    Raises:
        ValueError: If there is none, it is what is trained on, or the same queries are named twice.
    """
    filled = tuple(one.within(data) for one in validation)
    for place, one in enumerate(filled):
        if any((one.source, one.split) == (other.source, other.split) for other in filled[:place]):
            raise ValueError(f"validation: {one} is listed twice; each collection counts once")
    return filled


def _listed(value: Any) -> Any:
    """Make a list of what the YAML has: one collection, several, or null for none."""
    several = [] if value is None else value if isinstance(value, list | tuple) else [value]
    return [{"source": one} if isinstance(one, str) else one for one in several]


def _written(validation: tuple[ValidationConfig, ...]) -> Any:
    """Write one collection without a list, and none as null: part of the keys of results."""
    values = [one.model_dump(mode="json") for one in validation]
    return values if len(values) > 1 else values[0] if values else None


Validation = Annotated[tuple[ValidationConfig, ...], BeforeValidator(_listed), PlainSerializer(_written)]
