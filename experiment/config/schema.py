"""The top level of an experiment's YAML."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictInt,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from experiment.config.axes import check_axes, combinations, with_values
from experiment.config.eval_section import EvalConfig, check_for_width
from experiment.config.grid import Grid, Point, flat_grid, grid_points
from experiment.config.heads_section import HeadsConfig
from experiment.config.model_section import ModelConfig
from experiment.config.question_section import QuestionConfig
from experiment.config.sweep_section import SweepConfig, read_sweep
from experiment.config.train_section import TrainConfig
from experiment.fields import Device, Section, Threads, safe_name
from projheads.init import find_init

__all__ = ["ExperimentConfig", "ReferencePoint"]


def _default_seeds(values: dict[str, Any]) -> tuple[int, ...]:
    question = values.get("question")
    return (0, 1, 2) if question is None else tuple(range(question.seeds[1]))


class ExperimentConfig(Section):
    """One experiment: its trials, their evaluation and its report.

    Attributes:
        name: Name of the experiment; by default that of the file.
        description: One sentence for the report.
        output: Folder of the results; by default ``outputs/<name>``.
        cache: Folder that experiments share, for collections and token states.
        question: The resolution to answer at, with seeds that are added in rounds; None for a fixed list of seeds.
        seeds: One trial is trained for each variant and seed; by default 0, 1 and 2. A number is short for the seeds
            from 0: ``3`` for ``[0, 1, 2]``. With a ``question``, these are
            all seeds that its rounds may ask for.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``.
        threads: CPU threads; None leaves the number to torch. The number may change the last bits of a result.
        model: The backbone.
        heads: The heads.
        train: The training.
        sweep: Settings of ``train`` that every variant tries, the head's learning rate by default.
        eval: The evaluation.
        axes: Settings that are compared rather than chosen, each with its values: paths inside ``train``, such as
            ``max_pairs`` or ``optimizer.head_weight_decay``, and ``heads.init``, ``heads.out_features`` and
            ``model.layer``. Every variant is trained at every combination, and compared with the baseline there.
    """

    name: Annotated[str, AfterValidator(safe_name)]
    description: str = ""
    output: Path
    cache: Path = Path("outputs/.cache")
    question: QuestionConfig | None = None
    seeds: Annotated[tuple[Annotated[StrictInt, Field(ge=0)], ...], Field(min_length=1, default_factory=tuple)]
    device: Device = "auto"
    threads: Threads | None = None
    model: ModelConfig = ModelConfig()
    heads: HeadsConfig
    train: TrainConfig
    sweep: SweepConfig = SweepConfig()
    eval: EvalConfig
    axes: Annotated[Grid, BeforeValidator(flat_grid), Field(default_factory=dict)]

    @field_validator("seeds", mode="before")
    @classmethod
    def _derived(cls, seeds: Any, info: ValidationInfo) -> Any:
        if type(seeds) is int and seeds > 0:
            return tuple(range(seeds))
        return _default_seeds(info.data) if seeds in ((), None) else seeds

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if info.data.get("question") is not None and seeds != _default_seeds(info.data):
            raise ValueError("a `question` adds the seeds itself; remove `seeds`, or remove `question`")
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is listed twice; remove one")
        return seeds

    @property
    def untrained_seeds(self) -> tuple[int, ...]:
        """The seeds of the untrained reference row."""
        return self.seeds if self.question is None else self.seeds[: self.question.seeds[0]]

    @property
    def swept_seeds(self) -> tuple[int, ...]:
        """The seeds that are trained at every point of the sweep; with a question, seeds of its first round."""
        return self.untrained_seeds[: self.sweep.seeds]

    def count_trials(self, seeds: Sequence[int]) -> int:
        """Return how many trials are trained before any grid grows, for the number of seeds of each variant."""
        points, swept = len(grid_points(self.sweep.grid, self.train)), len(self.swept_seeds)
        return sum(min(number, swept) * (points - 1) + number for number in seeds)

    def describe_sweep(self, seeds: int) -> str:
        """Write what a sweep multiplies the trials of a variant with so many seeds by; empty without one."""
        if not self.sweep.grid:
            return ""
        some = f" for {len(self.swept_seeds)} of the seeds" if seeds > len(self.swept_seeds) else ""
        return f" x {len(grid_points(self.sweep.grid, self.train))} points of the sweep{some}"

    @field_validator("train")
    @classmethod
    def _has_base(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        model: ModelConfig | None = info.data.get("model")
        if train.lora is not None and train.lora.save == "adapter" and model is not None and model.layer is not None:
            raise ValueError("lora.save: an adapter needs all layers; use `save: merged`, or remove model.layer")
        return train

    @field_validator("sweep", mode="wrap")
    @classmethod
    def _sweepable(cls, value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> SweepConfig:
        return read_sweep(value, read, info.data.get("train"))

    @field_validator("eval")
    @classmethod
    def _not_chosen_by_test_queries(cls, evaluation: EvalConfig, info: ValidationInfo) -> EvalConfig:
        train: TrainConfig | None = info.data.get("train")
        tested = {(dataset.source, dataset.split) for dataset in evaluation.datasets}
        for chosen_by in train.validation if train is not None else ():
            if (chosen_by.source, chosen_by.split) in tested:
                raise ValueError(
                    f"datasets: {chosen_by} is also train.validation, and test queries must not choose anything; use "
                    "a different split for one of them"
                )
        return evaluation

    @field_validator("eval")
    @classmethod
    def _fits_the_width(cls, settings: EvalConfig, info: ValidationInfo) -> EvalConfig:
        if "heads" in info.data:
            check_for_width(settings, info.data["heads"].out_features)
        return settings

    @field_validator("axes")
    @classmethod
    def _comparable(cls, axes: Grid, info: ValidationInfo) -> Grid:
        question = info.data.get("question")
        if axes and question is not None and question.race:
            raise ValueError("a race is between heads at one setting; remove `axes`, or set question.race=false")
        missing = cls.model_fields.keys() - info.data.keys() - {"axes"}
        return axes if missing or not axes else check_axes(axes, cls.model_construct(**info.data, axes={}))

    def points(self) -> "list[tuple[Point, ExperimentConfig]]":
        """Return each combination of the axes' values with the experiment there; without axes this experiment."""
        if not self.axes:
            return [(Point({}, self.train), self)]
        values = self.model_dump(mode="json")
        derived = [
            (point, ExperimentConfig.model_validate(with_values(values, point))) for point in combinations(self.axes)
        ]
        return [(Point(point, config.train), config) for point, config in derived]

    def reference_points(self, name: str) -> "list[ReferencePoint]":
        """Return where on the axes a reference row differs: at one point if it depends on none of them.

        Args:
            name: ``bm25``, ``backbone`` or ``untrained``.
        """
        points = self.points()
        depends = {"backbone": {"model"}, "untrained": {"model", "heads"}}.get(name, set())
        inits = [find_init(derived.heads.init) for _, derived in points]
        if name == "untrained" and any(init.needs_sample or init.needs_matches for init in inits):
            depends |= {"data", "max_pairs"}
        found: dict[str, ReferencePoint] = {}
        for point, derived in points:
            axes = {key: value for key, value in point.values.items() if key.split(".")[0] in depends}
            suffix = Point(axes, derived.train).suffix
            found.setdefault(suffix, ReferencePoint(name + suffix, axes, point, derived))
        return list(found.values())


class ReferencePoint(NamedTuple):
    """Where on the axes a reference row is.

    Attributes:
        folder: The name of its folder.
        axes: The values of the axes that it depends on, by key.
        point: The first point with these values.
        config: The experiment at this point.
    """

    folder: str
    axes: dict[str, Any]
    point: Point
    config: ExperimentConfig
