"""The section ``train.data`` of an experiment's YAML: pairs, tuples with hard negatives, or a mix of both."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictInt, field_validator, model_validator

from experiment.collections.hub import missing_from_hub_cache, parse_hub_name
from experiment.collections.same_ids import ExcludeOwnId
from experiment.collections.sources import check_source, check_training_source
from experiment.fields import MOST, UNUSED_AT_DEFAULT, Positive, Section

__all__ = ["DataPart", "MixPart", "TrainData", "TrainDataConfig"]


class DataPart(Section):
    """Where training examples come from. A string is short for ``tuples`` if it ends in .jsonl, or ``source``.

    Attributes:
        source: A collection, written as in ``eval.datasets``. Without ``tuples`` its judgements give the pairs; with
            ``tuples`` it gives the texts of their ids.
        split: The split of ``source`` whose judgements are used.
        tuples: A JSONL file (see ``train.data.tuples_file``), or ``hf:<owner>/<name>[/<config>]`` for a data set of
            the hub (see ``train.data.tuples_hub``): queries with several documents each, of which the first is
            relevant.
        n_ways: Documents of a tuple that are used, starting with the first; None for all, which then have to be equally
            many in every tuple.
        exclude_own_id: As in ``eval.datasets``: an excluded document is never a negative of its query, neither in
            training, validation nor mining.
    """

    source: str | None = None
    split: str = "train"
    tuples: str | None = None
    n_ways: Annotated[StrictInt, Field(ge=2, le=MOST)] | None = None
    exclude_own_id: ExcludeOwnId = "auto"

    def __str__(self) -> str:
        """Name the data at the beginning of a message about it."""
        collection = f"{self.source} ({self.split})" if self.source else ""
        return " over ".join(part for part in (self.tuples, collection) if part)

    @property
    def hub_tuples(self) -> tuple[str, str | None] | None:
        """Repository and configuration of ``tuples`` on the hub; None if they are not on the hub."""
        if self.tuples is None or not self.tuples.startswith("hf:"):
            return None
        return parse_hub_name(self.tuples.removeprefix("hf:"))

    def warnings(self, cache: Path) -> list[str]:
        """List what is not on this disk yet, without loading anything or using the network."""
        lines = [check_source(self.source, cache=cache)] if self.source else []
        if self.hub_tuples:
            missing = missing_from_hub_cache(self.hub_tuples[0])
            lines.append(missing and f"{self.tuples}: {missing}")
        elif self.tuples and not Path(self.tuples).expanduser().is_file():
            lines.append(f"{self.tuples}: the file does not exist yet; `python -m train mine` writes one")
        return [line for line in lines if line]

    @field_validator("source")
    @classmethod
    def _known(cls, source: str | None) -> str | None:
        if source is not None:
            check_training_source(source)
        return source

    @field_validator("tuples")
    @classmethod
    def _readable(cls, tuples: str | None) -> str | None:
        if tuples is not None and tuples.startswith("hf:"):
            parse_hub_name(tuples.removeprefix("hf:"))
        elif tuples is not None and not tuples.endswith(".jsonl"):
            raise ValueError(f'"{tuples}" is neither a file.jsonl nor hf:<owner>/<name>[/<config>]')
        return tuples

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source is None and self.tuples is None and not getattr(self, "mix", ()):
            raise ValueError("set `source`, a collection, or `tuples`, a file.jsonl or hf:<owner>/<name>")
        if self.source is not None and self.hub_tuples:
            raise ValueError("tuples of the hub contain their texts; remove `source`")
        if self.n_ways is not None and self.tuples is None:
            raise ValueError("n_ways needs `tuples`; pairs have one document each")
        if self.exclude_own_id != "auto" and self.source is None:
            raise ValueError("exclude_own_id needs `source`, the collection whose ids it is about")
        return self


def _complete(value: Any) -> Any:
    if isinstance(value, str):
        return {"tuples" if value.endswith(".jsonl") else "source": value}
    return {"mix": value} if isinstance(value, list | tuple) else value


class MixPart(DataPart):
    """One source of a mix.

    Attributes:
        n_ways: See ``train.data``; it may differ between the sources.
        weight: Its share of the batches, relative to the weights of the others; None to draw by its size.
    """

    weight: Positive | None = None


class TrainDataConfig(DataPart):
    """Where the training examples come from; a list is short for a ``mix``.

    Attributes:
        mix: Several sources. Each step draws its examples from one of them, the same for every variant of a seed.
        temperature: Without weights, a source of n examples is drawn with a probability proportional to
            n^(1 / temperature): 1 draws by size, and the higher, the more evenly.
    """

    mix: Annotated[tuple[Annotated[MixPart, BeforeValidator(_complete)], ...], UNUSED_AT_DEFAULT] = ()
    temperature: Annotated[Positive, UNUSED_AT_DEFAULT] = 1.0

    def __str__(self) -> str:
        """Name the data at the beginning of a message about it."""
        return " + ".join(map(str, self.mix)) if self.mix else super().__str__()

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """The sources: those of the mix, or this one."""
        return self.mix or (self,)

    def warnings(self, cache: Path) -> list[str]:
        """List what is not on this disk yet, without loading anything or using the network."""
        return [line for part in self.mix for line in part.warnings(cache)] if self.mix else super().warnings(cache)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        weights = [part.weight for part in self.mix]
        if self.mix and (self.source is not None or self.tuples is not None or self.n_ways is not None):
            raise ValueError("a mix lists its sources itself; remove `source`, `tuples` and `n_ways` next to `mix`")
        if self.mix and len(self.mix) < 2:
            raise ValueError("a mix has at least two sources; write a single one without `mix`")
        if len({str(part) for part in self.mix}) < len(self.mix):
            raise ValueError("a mix lists a source twice; remove one")
        if any(weights) and None in weights:
            raise ValueError("give every source of the mix a weight, or none of them")
        if self.temperature != 1.0 and (not self.mix or any(weights)):
            raise ValueError("temperature is for a `mix` without weights")
        return self


TrainData = Annotated[TrainDataConfig, BeforeValidator(_complete)]
