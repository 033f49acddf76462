"""The top level of an experiment's YAML."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, ValidationInfo, field_validator

from experiment.config.eval_section import EvalConfig
from experiment.config.grid import Grid, check_grid, flat_grid
from experiment.config.heads_section import HeadsConfig
from experiment.config.model_section import ModelConfig
from experiment.config.train_section import TrainConfig
from experiment.fields import Count, Section, safe_name

__all__ = ["ExperimentConfig"]


class ExperimentConfig(Section):
    """One experiment: its trials, their evaluation and its report.

    Attributes:
        name: Name of the experiment; by default that of the file.
        description: One sentence for the report.
        output: Folder of the results; by default ``outputs/<name>``.
        cache: Folder that experiments share, for collections and token states.
        seeds: One trial is trained for each variant and seed.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``.
        threads: CPU threads; None leaves the number to torch. The number may change the last bits of a result.
        model: The backbone.
        heads: The heads.
        train: The training.
        sweep: Settings of ``train`` by their path, each with the values that every variant tries, for example
            ``{optimizer.head_lr: [3e-4, 1e-3]}``; each variant keeps the combination with the best nDCG@10 on held-out
            pairs.
        eval: The evaluation.
    """

    name: Annotated[str, AfterValidator(safe_name)]
    description: str = ""
    output: Path
    cache: Path = Path("outputs/.cache")
    seeds: Annotated[tuple[Annotated[StrictInt, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2)
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    threads: Count | None = None
    model: ModelConfig = ModelConfig()
    heads: HeadsConfig
    train: TrainConfig
    sweep: Annotated[Grid, BeforeValidator(flat_grid), Field(default_factory=dict)]
    eval: EvalConfig

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is listed twice; remove one")
        return seeds

    @field_validator("sweep")
    @classmethod
    def _sweepable(cls, sweep: Grid, info: ValidationInfo) -> Grid:
        return check_grid(sweep, info.data["train"]) if "train" in info.data else sweep
