"""The trials of an experiment, and how one is trained and written."""

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from experiment.config import ExperimentConfig, Point, TrainConfig
from experiment.console.progress import Advance, Progress
from experiment.disk.files import sha256_json, versions, write_text
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.models import save_model, weights_hash
from experiment.disk.records import FinalLoss, ReferenceRecord, TrainTimings, TrialRecord
from experiment.encoding.device import describe_device, peak_memory, reset_peak_memory
from projheads import Head, HeadSpec, head_cost
from projheads.errors import ProjheadsError
from projheads.hosts.base import HostModel
from projheads.registry import head_files
from train.data.examples import load_training_data
from train.embedding.states import Shared, open_states, trial_model
from train.failures import TrainingFailedError, failures_told
from train.processes import Processes
from train.resume import Checkpoint
from train.setting import Setting, new_head, prepare, start_key
from train.trackers import open_trackers
from train.trial import TrainingLog, count_steps, train_trial

__all__ = ["Trainer", "Trial", "list_trials", "make_trial", "write_failed", "write_untrained"]

PACKAGES = {
    "projheads": "projheads",
    "torch": "torch",
    "transformers": "transformers",
    "sentence-transformers": "sentence-transformers",
    "pylate": "pylate",
}


@dataclass(frozen=True)
class Trial:
    """One variant with one seed, how it is trained, and where its files go.

    Attributes:
        spec: The head.
        seed: The seed.
        folder: Where its files go.
        key: Hash of everything that its result depends on.
        settings: The training section, with the values of its point of a sweep.
        point: Its point of the sweep; None without one.
    """

    spec: HeadSpec
    seed: int
    folder: TrialFolder
    key: str
    settings: TrainConfig
    point: Point | None = None

    @property
    def name(self) -> str:
        """The trial as a person reads it."""
        return f"{self.spec} seed {self.seed}" + (f" at {self.point}" if self.point else "")

    @property
    def finished(self) -> bool:
        """Whether the folder holds exactly this trial, finished and complete, and not as the choice of a sweep.

        Raises:
            ProjheadsError: If its trial.json is damaged.
        """
        record = self.folder.read_trial()
        if record is None or (record.status, record.key, record.sweep) != ("finished", self.key, None):
            return False
        # A sweep deletes the models of the points that it does not choose.
        return self.point is not None or (self.folder.model.is_dir() and self.folder.train_jsonl.is_file())


def list_trials(setting: Setting, folder: ExperimentFolder) -> list[Trial]:
    """List the trials of an experiment without a sweep."""
    config = setting.config
    return [
        make_trial(setting, spec, seed, folder.trial(spec.slug, seed), config.train)
        for spec in config.heads.variants
        for seed in config.seeds
    ]


def make_trial(
    setting: Setting,
    spec: HeadSpec,
    seed: int,
    folder: TrialFolder,
    settings: TrainConfig,
    point: Point | None = None,
) -> Trial:
    """Make a trial; its key names everything that its result depends on."""
    training: dict[str, Any] = {
        "train": settings.model_dump(mode="json", exclude={"log_every", "checkpoint_every", "trackers"}),
        "data": setting.data.hash,
    }
    if setting.config.heads.matryoshka:
        training["matryoshka"] = list(setting.config.heads.matryoshka)
    return Trial(spec, seed, folder, sha256_json(start_key(setting, spec, seed) | training), settings, point)


@dataclass(frozen=True)
class Trainer:
    """Trains trials of an experiment, in this process or, by its recipe, in others.

    Attributes:
        setting: What the trials share.
        shared: What is computed of the training texts once for all of them.
        folder: The experiment's folder.
        processes: The processes that train each trial together.
    """

    setting: Setting
    shared: Shared
    folder: ExperimentFolder
    processes: Processes

    @property
    def device(self) -> torch.device:
        """The device that it trains on."""
        return self.setting.model.device

    def __call__(self, trial: Trial, /, progress: Progress, advance: Advance) -> str:
        """Train one trial and write its folder; a trial that fails is written as failed, with its reason.

        Returns:
            What to tell of it.
        """
        setting, processes = self.setting, self.processes
        head = new_head(setting, trial.spec, trial.seed).to(self.device)
        model, embed = trial_model(setting, self.shared, head)
        checkpoint = Checkpoint(trial.folder.checkpoint, trial.key, trial.settings.checkpoint_every)
        reset_peak_memory(self.device)
        log, failure, reached = TrainingLog(), None, 0
        with (
            progress.step(trial.name, count_steps(trial.settings, len(setting.data.examples))) as advance_trial,
            open_trackers(setting.config, trial.name, trial.folder.path, main=processes.main) as track,
        ):

            def on_step(step: int, log: TrainingLog) -> None:
                nonlocal reached
                note = f"loss {log.losses[-1]:.3f}, {log.examples_per_s:.0f} examples/s" if log.losses else ""
                advance_trial(step - reached, note)
                advance(step - reached, note)
                reached = step

            try:
                with failures_told():
                    log = train_trial(
                        trial.settings, head, model, embed, setting.data, trial.seed,
                        widths=setting.config.heads.widths, on_step=on_step, on_line=track,
                        checkpoint=checkpoint, processes=processes,
                    )  # fmt: skip
                    if processes.main:
                        trial.folder.trial_json.unlink(missing_ok=True)
                        write_text(trial.folder.train_jsonl, "".join(f"{json.dumps(line)}\n" for line in log.lines))
                        _save(model or setting.replace(setting.model, head), trial.folder, setting, self.folder)
            except TrainingFailedError as error:
                failure = str(error)
        if processes.main:
            _describe(setting, trial, head, log, failure).write(trial.folder.trial_json)
            if failure is None:
                checkpoint.remove()
        processes.wait()
        return f"FAILED: {failure}" if failure else str(log)

    def recipe(self) -> "Callable[[], Trainer]":
        """Return a function that can be pickled and makes such a trainer in another process."""
        setting = self.setting
        return partial(_trainer, setting.config, self.device.type, setting.backbone_hash, setting.data.hash)


def _trainer(config: ExperimentConfig, device: str, backbone_hash: str, data_hash: str) -> Trainer:
    """Make a trainer in another process, from the same files.

    Raises:
        ProjheadsError: If this machine has another backbone or other data.
    """
    setting = prepare(config.model_copy(update={"device": device}), load_training_data(config))
    for what, ours, theirs in (
        ("model.backbone", setting.backbone_hash, backbone_hash),
        ("train.data", setting.data.hash, data_hash),
    ):
        if ours != theirs:
            raise ProjheadsError(f"{what}: has other bytes on {platform.node()} than on the machine of the command")
    setting = replace(setting, config=config)
    alone = Processes()
    shared = open_states(setting, alone, Progress(quiet=True))
    return Trainer(setting, shared, ExperimentFolder(config.output), alone)


def write_failed(setting: Setting, trial: Trial, reason: str) -> None:
    """Write a trial as failed, with its reason."""
    head = new_head(setting, trial.spec, trial.seed)
    _describe(setting, trial, head, TrainingLog(), reason).write(trial.folder.trial_json)


def write_untrained(setting: Setting, folder: ExperimentFolder) -> None:
    """Write the baseline's models as training starts from them: a reference row of the leaderboard."""
    baseline = setting.config.heads.baseline
    for seed in setting.config.seeds:
        reference = folder.reference("untrained", seed)
        key = sha256_json(start_key(setting, baseline, seed))
        record = ReferenceRecord.find(reference.reference_json)
        if record is not None and record.key == key and reference.model.is_dir():
            continue
        head = new_head(setting, baseline, seed).to(setting.model.device)
        _save(setting.replace(setting.model, head), reference, setting, folder)
        ReferenceRecord(
            name="untrained",
            description=f"{baseline} at its initialisation, before training",
            seed=seed,
            key=key,
            weights_hash=weights_hash(reference.model),
        ).write(reference.reference_json)


def _save(model: HostModel, to: TrialFolder, setting: Setting, folder: ExperimentFolder) -> None:
    """Save a model; where the backbone is frozen, all models of the experiment share one weight file."""
    saved = folder.models() if setting.config.train.trainable == "head" else []
    save_model(model, to.model, backbone_from=saved[0] if saved else None)


def _describe(setting: Setting, trial: Trial, head: Head, log: TrainingLog, failure: str | None) -> TrialRecord:
    """Make the record of a trial."""
    config, cost = setting.config, head_cost(head)
    return TrialRecord(
        status="finished" if failure is None else "failed",
        error=failure,
        label=str(trial.spec),
        slug=trial.spec.slug,
        head=trial.spec.to_dict(),
        head_files=head_files(trial.spec),
        is_baseline=trial.spec == config.heads.baseline,
        seed=trial.seed,
        in_features=setting.model.in_features,
        out_features=config.heads.out_features,
        matryoshka=list(config.heads.widths) if config.heads.matryoshka else None,
        init=config.heads.init,
        trainable=config.train.trainable,
        key=trial.key,
        config_hash=sha256_json(config.model_dump(mode="json")),
        data_hash=setting.data.hash,
        weights_hash=weights_hash(trial.folder.model) if failure is None else None,
        backbone=config.model.backbone,
        host=setting.model.host,
        versions=versions(PACKAGES),
        device=describe_device(setting.model.device),
        precision=config.train.precision,
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        folds=cost.folds,
        steps=count_steps(trial.settings, len(setting.data.examples)),
        learning_rate=trial.settings.optimizer.head_lr,
        train=FinalLoss(loss=log.loss) if failure is None else None,
        validation=log.validation,
        timings=TrainTimings(train_s=log.seconds, examples_per_s=log.examples_per_s),
        peak_memory_bytes=peak_memory(setting.model.device),
    )
