"""The section ``train.data`` of an experiment's YAML: pairs of a collection, or tuples with hard negatives."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictInt, field_validator, model_validator

from experiment.collections import check_source
from experiment.collections.hub import in_hub_cache, parse_hub_name
from experiment.config.fields import Section

__all__ = ["TrainData", "TrainDataConfig"]


class TrainDataConfig(Section):
    """Where the training examples come from. A bare string is ``tuples`` if it ends in .jsonl, and else ``source``.

    Attributes:
        source: A collection as ``eval.datasets`` names it. Without ``tuples`` its judgements give the pairs; with them
            it gives the texts to their ids.
        split: Which judgements of ``source`` are used.
        tuples: A JSONL file (see ``train.data.tuples_file``), or ``hf:<owner>/<name>[/<config>]`` for a data set of
            the hub (see ``train.data.tuples_hub``): queries, each with documents of which the first is relevant.
        n_ways: Documents of a tuple that are used, from the first on; None for all, of which every tuple then has the
            same number.
    """

    source: str | None = None
    split: str = "train"
    tuples: str | None = None
    n_ways: Annotated[StrictInt, Field(ge=2)] | None = None

    def __str__(self) -> str:
        """Name the data as a line that tells of it begins."""
        collection = f"{self.source} ({self.split})" if self.source else ""
        return " over ".join(part for part in (self.tuples, collection) if part)

    def warnings(self, cache: Path) -> list[str]:
        """Tell what is not on this disk yet; no network, no loading."""
        lines = [check_source(self.source, cache=cache)] if self.source else []
        if self.tuples and self.tuples.startswith("hf:"):
            there = in_hub_cache(parse_hub_name(self.tuples[3:])[0])
            lines.append(None if there else f"{self.tuples}: not on this disk yet; it is fetched when it is needed")
        elif self.tuples and not Path(self.tuples).expanduser().is_file():
            lines.append(f"{self.tuples}: there is no such file yet; `python -m train mine` writes one")
        return [line for line in lines if line]

    @field_validator("source")
    @classmethod
    def _known(cls, source: str | None) -> str | None:
        if source is not None and source.startswith("nano:"):
            raise ValueError(f'"{source}" is for testing alone; train on the whole collection, beir:<name>')
        if source is not None:
            check_source(source)
        return source

    @field_validator("tuples")
    @classmethod
    def _readable(cls, tuples: str | None) -> str | None:
        if tuples is not None and tuples.startswith("hf:"):
            parse_hub_name(tuples[3:])
        elif tuples is not None and not tuples.endswith(".jsonl"):
            raise ValueError(f'"{tuples}" is neither a file.jsonl nor hf:<owner>/<name>[/<config>]')
        return tuples

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source is None and self.tuples is None:
            raise ValueError(
                "say where the examples come from: `source`, a collection, or `tuples`, a file.jsonl or hf:"
            )
        if self.source is not None and self.tuples is not None and self.tuples.startswith("hf:"):
            raise ValueError("tuples of the hub bring their own texts; leave `source` out")
        if self.n_ways is not None and self.tuples is None:
            raise ValueError("n_ways is for `tuples`; pairs have one document each")
        return self


def _complete(value: Any) -> Any:
    if isinstance(value, str):
        return {"tuples" if value.endswith(".jsonl") else "source": value}
    return value


TrainData = Annotated[TrainDataConfig, BeforeValidator(_complete)]
