"""Trains trials and writes their folders."""

import json
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiment.config import ExperimentConfig, Point, ReferencePoint
from experiment.config.train_section import LoraSection
from experiment.console.progress import Advance, Progress
from experiment.disk.files import sha256_json, versions, write_text
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.models import is_intact, save_model, weights_hash
from experiment.disk.records import FinalLoss, ReferenceRecord, TrainTimings, TrialRecord
from experiment.encoding.device import describe_device, peak_memory, reset_peak_memory
from experiment.seeds import seed_for
from projheads import Head, head_cost
from projheads.errors import ProjheadsError
from projheads.hosts.base import HostModel
from projheads.registry import head_files
from train.data.examples import load_training_data
from train.describe_trial import PACKAGES, add_trial_card, add_untrained_card
from train.embedding.states import TrainingStates, open_all_states, transformer_of, trial_embedder, trial_model
from train.failures import TrainingFailedError, trial_errors
from train.lora import merge_lora, save_adapter, take_lora
from train.preparation import Preparation, new_head, prepare, start_group, start_key
from train.processes import Processes
from train.resume import ResumePoint
from train.trackers import open_trackers
from train.training import Steps, TrainingLog, counted_from, to_the_end, training_steps
from train.trial import Trial

__all__ = ["Trainer", "stage_seed", "write_failed", "write_untrained"]


@dataclass(frozen=True)
class Trainer:
    """Trains trials of an experiment in this process, or through its recipe in others.

    Attributes:
        prepared: What the trials share.
        states: What is computed once from the training texts, for each stage.
        folder: The experiment's folder.
        processes: The processes that train each trial together.
    """

    prepared: Preparation
    states: tuple[TrainingStates, ...]
    folder: ExperimentFolder
    processes: Processes

    @property
    def device(self) -> torch.device:
        """The device it trains on."""
        return self.prepared.model.device

    def __call__(self, trial: Trial, /, progress: Progress, advance: Advance) -> str:
        """Train one trial and write its folder; see ``steps``."""
        return to_the_end(self.steps)(trial, progress, advance)

    def steps(self, trial: Trial, progress: Progress, advance: Advance) -> Steps[str]:
        """Train one trial, pausing after each step, and write its folder.

        Returns:
            A one-line summary.

        Raises:
            TrainingFailedError: If the trial fails; its folder is left to ``write_failed``.
        """
        prepared, processes = self.prepared, self.processes
        head = new_head(prepared, trial.spec, trial.seed).to(self.device)
        model = trial_model(prepared, head, trial.config, trial.seed)
        reset_peak_memory(self.device)
        reached = 0
        try:
            with (
                trial_errors(),
                progress.step(trial.name, trial.steps) as advance_trial,
                open_trackers(prepared.config, trial.name, trial.folder.path, main=processes.main) as track,
            ):

                def on_step(step: int, log: TrainingLog) -> None:
                    nonlocal reached
                    note = f"loss {log.losses[-1]:.3f}, {log.examples_per_s:.0f} examples/s" if log.losses else ""
                    advance_trial(step - reached, note)
                    advance(step - reached, note)
                    reached = step

                log = yield from self._train(trial, head, model, on_step, track)
                finish: list[Callable[[Path], None]] = []
                if model is not None and trial.config.lora is not None:
                    finish = _finish_lora(prepared, model, trial.config.lora)
                if processes.main:
                    trial.folder.trial_json.unlink(missing_ok=True)
                    write_text(trial.folder.train_jsonl, "".join(f"{json.dumps(line)}\n" for line in log.lines))
                    trained = model or prepared.host.replace_head(prepared.model, head)
                    finish.append(partial(add_trial_card, prepared, head, trial))
                    _save(trained, trial.folder, prepared, self.folder, finish)
                    _describe(prepared, trial, head, log, None).write(trial.folder.trial_json)
                    shutil.rmtree(trial.folder.resume, ignore_errors=True)
        except TrainingFailedError:
            processes.wait()
            raise
        processes.wait()
        return str(log)

    def _train(
        self,
        trial: Trial,
        head: Head,
        model: HostModel | None,
        on_step: Callable[[int, TrainingLog], None],
        on_line: Callable[[dict[str, Any]], None],
    ) -> Steps[TrainingLog]:
        """Train the stages of a trial one after the other; with several, steps are counted through all of them."""
        prepared = self.prepared
        stages = prepared.stages(trial.config)
        lines: list[dict[str, Any]] = []
        seconds, first, clipped = 0.0, 0, 0
        for number, (config, data) in enumerate(stages):

            def renumbered(line: dict[str, Any], number: int = number, first: int = first) -> dict[str, Any]:
                return line if len(stages) == 1 else {**line, "step": line["step"] + first, "stage": number + 1}

            folder, seed = trial.folder.resume, stage_seed(trial.seed, number)
            if number:
                folder = folder / f"stage-{number + 1}"
            steps = training_steps(
                config, head, model, trial_embedder(prepared, self.states[number], model, config), data, seed,
                widths=prepared.config.heads.widths,
                on_step=lambda step, log, first=first: on_step(first + step, log),  # type: ignore[misc]
                on_line=lambda line, renumbered=renumbered: on_line(renumbered(line)),  # type: ignore[misc]
                resume=ResumePoint(folder, trial.key, config.resume_every, number + 1 < len(stages), config.states),
                processes=self.processes,
                probed=prepared.config.eval.explain is not None,
            )  # fmt: skip
            log = yield from counted_from(first, steps)
            lines += map(renumbered, log.lines)
            seconds += log.seconds
            first += len(log.losses)
            clipped += log.clipped
        return replace(log, lines=lines, seconds=seconds, clipped=clipped)

    def recipe(self) -> "Callable[[], Trainer]":
        """Return a picklable function that makes the same trainer in another process."""
        prepared = self.prepared
        return partial(
            _trainer, prepared.config, prepared.point, self.device.type, prepared.backbone_hash, prepared.data.hash
        )


def _trainer(config: ExperimentConfig, point: Point, device: str, backbone_hash: str, data_hash: str) -> Trainer:
    """Make a trainer in another process from the same files.

    Raises:
        ProjheadsError: If the backbone or the data differ on this machine.
    """
    prepared = prepare(config.model_copy(update={"device": device}), load_training_data(config), point)
    for what, ours, theirs in (
        ("model.backbone", prepared.backbone_hash, backbone_hash),
        ("train.data", prepared.data.hash, data_hash),
    ):
        if ours != theirs:
            raise ProjheadsError(
                f"{what}: its contents on {platform.node()} differ from those on the machine of the command"
            )
    prepared = replace(prepared, config=config)
    single = Processes()
    states = open_all_states(prepared, single, Progress(quiet=True))
    return Trainer(prepared, states, ExperimentFolder(config.output), single)


def stage_seed(seed: int, number: int) -> int:
    """Return the seed of a trial's stage, counted from 0."""
    return seed_for(seed, "stage", number) if number else seed


def write_failed(prepared: Preparation, trial: Trial, reason: str) -> None:
    """Record a trial as failed, with the reason."""
    head = new_head(prepared, trial.spec, trial.seed)
    _describe(prepared, trial, head, TrainingLog(), reason).write(trial.folder.trial_json)


def write_untrained(at: ReferencePoint, prepared: Preparation, folder: ExperimentFolder) -> None:
    """Write the baseline's untrained models, a reference row of the leaderboard.

    Args:
        at: Where on the axes the row is.
        prepared: What the trials share at its point.
        folder: The experiment's folder.
    """
    baseline = prepared.config.heads.baseline
    for seed in prepared.config.untrained_seeds:
        reference = folder.reference(at.folder, seed)
        key = sha256_json(start_key(prepared, baseline, seed))
        record = ReferenceRecord.find(reference.reference_json)
        if record is None or record.key != key or not is_intact(reference.model, record.weights_hash):
            head = new_head(prepared, baseline, seed).to(prepared.model.device)
            card = partial(add_untrained_card, prepared, head, seed)
            _save(prepared.host.replace_head(prepared.model, head), reference, prepared, folder, [card])
        elif record.axes == at.axes:
            continue
        ReferenceRecord(
            name="untrained",
            description=f"{baseline} at its initialisation, before training",
            seed=seed,
            key=key,
            weights_hash=weights_hash(reference.model),
            axes=at.axes,
        ).write(reference.reference_json)


def _save(
    model: HostModel,
    to: TrialFolder,
    prepared: Preparation,
    folder: ExperimentFolder,
    finish: Sequence[Callable[[Path], None]],
) -> None:
    """Save a model, and finish its folder; if the backbone is frozen, all models share one weight file."""
    frozen = prepared.config.train.trainable == "head" and "model.layer" not in prepared.point.values
    saved = next((path for path in folder.models() if _is_pretrained(path)), None) if frozen else None
    save_model(model, to.model, backbone_from=saved, finish=finish)


def _finish_lora(prepared: Preparation, model: HostModel, config: LoraSection) -> list[Callable[[Path], None]]:
    """Merge the adapters of a model, or take them off; return what finishes its folder."""
    transformer, backbone = transformer_of(model), prepared.config.model
    if config.save == "merged":
        merge_lora(transformer)
        return []
    adapter = take_lora(transformer)
    return [lambda folder: save_adapter(adapter, folder, backbone.backbone, backbone.settings())]


def _is_pretrained(model: Path) -> bool:
    """Return whether a saved model has the backbone as it was: an untrained one, or one whose backbone was frozen."""
    record = TrialFolder(model.parent).read_trial()
    return model.parents[2].name == "references" if record is None else record.trainable == "head"


def _describe(prepared: Preparation, trial: Trial, head: Head, log: TrainingLog, failure: str | None) -> TrialRecord:
    """Make the record of a trial."""
    config, model, cost = prepared.config, prepared.model, head_cost(head)
    return TrialRecord(
        status="finished" if failure is None else "failed",
        error=failure,
        label=str(trial.spec),
        slug=trial.spec.slug + prepared.point.suffix,
        axes=dict(trial.axes),
        head=trial.spec.to_dict(),
        head_files=head_files(trial.spec),
        is_baseline=trial.spec == config.heads.baseline,
        seed=trial.seed,
        in_features=model.in_features,
        out_features=config.heads.out_features,
        matryoshka=list(config.heads.widths) if config.heads.matryoshka else None,
        init=config.heads.init,
        start_group=start_group(prepared, trial.spec, trial.seed),
        trainable=config.train.trainable,
        states=None if config.train.states == "auto" else config.train.states,
        key=trial.key,
        config_hash=sha256_json(config.model_dump(mode="json")),
        data_hash=prepared.data.hash,
        weights_hash=weights_hash(trial.folder.model) if failure is None else None,
        backbone=config.model.backbone,
        host=model.host,
        versions=versions(PACKAGES),
        device=describe_device(model.device),
        precision=config.train.precision,
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        inference_multiply_adds=cost.inference_multiply_adds,
        folds=cost.folds,
        steps=trial.steps,
        learning_rate=trial.config.optimizer.head_lr,
        train=FinalLoss(loss=log.loss, clipped=log.clipped / trial.steps) if failure is None else None,
        validation=log.validation,
        timings=TrainTimings(train_s=log.seconds, examples_per_s=log.examples_per_s),
        peak_memory_bytes=peak_memory(model.device),
    )
