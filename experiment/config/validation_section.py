"""The section ``train.validation`` of an experiment's YAML: development queries, by which a sweep chooses."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictInt, field_validator, model_validator

from experiment.collections.same_ids import ExcludeOwnId
from experiment.collections.sources import check_source, official_split
from experiment.config.train_data_section import TrainDataConfig
from experiment.fields import Count, Section

__all__ = ["Validation", "ValidationConfig"]


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


def _complete(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


Validation = Annotated[ValidationConfig, BeforeValidator(_complete)]
