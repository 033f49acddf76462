"""The trials of an experiment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiment.config import Point, TrainConfig
from experiment.disk.files import sha256_json
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.models import is_intact
from experiment.disk.records import TrialRecord, row_label
from experiment.rounds import planned_seeds
from projheads import HeadSpec
from train.embedding.layers import LAYERS_VERSION
from train.optimization import count_steps
from train.preparation import Preparation, start_key

__all__ = ["Trial", "plan_trial", "plan_trials"]


@dataclass(frozen=True)
class Trial:
    """One variant with one seed: how it is trained, and where its files go.

    Attributes:
        spec: The head.
        seed: The seed.
        folder: Where its files go.
        key: Hash of everything that its result depends on.
        config: The training section, with the values of its point of a sweep.
        steps: Number of optimiser steps.
        axes: The values at its point of the axes; empty without axes.
        point: Its point of the sweep; None without a sweep.
    """

    spec: HeadSpec
    seed: int
    folder: TrialFolder
    key: str
    config: TrainConfig
    steps: int
    axes: Mapping[str, Any]
    point: Point | None = None

    @property
    def name(self) -> str:
        """Name of the trial, for progress and errors."""
        return f"{row_label(str(self.spec), self.axes)} seed {self.seed}" + (f" at {self.point}" if self.point else "")

    @property
    def finished(self) -> bool:
        """Whether the folder holds the complete, undamaged result of this trial, and not the choice of a sweep.

        Raises:
            ProjheadsError: If its trial.json is damaged.
        """
        record = self._finished_record()
        return record is not None and self._damage(record) is None

    @property
    def damage(self) -> str | None:
        """What is missing or damaged in the folder of a trial that was finished; None if nothing is, or it was not."""
        record = self._finished_record()
        return None if record is None else self._damage(record)

    def _damage(self, record: TrialRecord) -> str | None:
        if self.point is not None and not self.folder.model.exists():
            return None  # A sweep deletes the models of the points that it does not choose.
        if not self.folder.train_jsonl.is_file():
            return f"{self.folder.train_jsonl} is missing"
        if not self.folder.model.is_dir():
            return f"{self.folder.model} is missing"
        if not is_intact(self.folder.model, record.weights_hash):
            return f"{self.folder.model} is damaged (its files are not those that were saved)"
        return None

    def _finished_record(self) -> TrialRecord | None:
        """Return the record of this trial if it was finished, and is not the choice of a sweep."""
        record = self.folder.read_trial()
        done = record is not None and (record.status, record.key, record.sweep) == ("finished", self.key, None)
        return record if done else None


def plan_trials(prepared: Preparation, folder: ExperimentFolder) -> list[Trial]:
    """List the trials of an experiment without a sweep."""
    config, point = prepared.config, prepared.point
    seeds = planned_seeds(config, folder, point.values)
    return [
        plan_trial(prepared, spec, seed, folder.trial(spec.slug + point.suffix, seed), config.train)
        for spec in config.heads.variants
        for seed in seeds[row_label(str(spec), point.values)]
    ]


def plan_trial(
    prepared: Preparation,
    spec: HeadSpec,
    seed: int,
    folder: TrialFolder,
    config: TrainConfig,
    point: Point | None = None,
) -> Trial:
    """Describe a trial; its key covers everything that its result depends on."""
    training: dict[str, Any] = {
        "train": config.key_values(exclude=("log_every", "resume_every", "states", "trackers")),
        "data": prepared.data.hash,
    }
    if prepared.later:
        training["later_data"] = [data.hash for data in prepared.later]
    if config.trained_layers:
        training["layers_version"] = LAYERS_VERSION
    if prepared.config.train.states == "lockstep":
        training["states"] = "lockstep"
    if prepared.config.heads.matryoshka:
        training["matryoshka"] = list(prepared.config.heads.matryoshka)
    key = sha256_json(start_key(prepared, spec, seed) | training)
    steps = sum(count_steps(stage, len(data.examples)) for stage, data in prepared.stages(config))
    return Trial(spec, seed, folder, key, config, steps, prepared.point.values, point)
