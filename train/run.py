"""An experiment's training: every variant with every seed, each trial written once."""

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiment.claim import claim_folder
from experiment.config import ExperimentConfig
from experiment.device import describe_device, peak_memory, reset_peak_memory
from experiment.fingerprint import weights_hash
from experiment.folder import (
    SCHEMA_VERSION,
    ExperimentFolder,
    TrialFolder,
    read_json,
    sha256_json,
    versions,
    write_json,
    write_text,
)
from experiment.progress import Advance, Progress
from experiment.save import save_model
from projheads import Head, HeadSpec, head_cost, head_warnings
from projheads.hosts.base import HostModel
from train.checkpoint import Checkpoint
from train.data import load_training_data
from train.estimate import estimate_line
from train.failures import TrainingFailedError, failures_told
from train.processes import Processes, join_processes
from train.setting import Setting, new_head, prepare, start_key
from train.states import Shared, open_states, states_at_hand, trial_model
from train.trackers import open_trackers
from train.trial import TrialRecord, count_steps, train_trial

__all__ = ["run_training"]

PACKAGES = {
    "projheads": "projheads",
    "torch": "torch",
    "transformers": "transformers",
    "sentence-transformers": "sentence-transformers",
    "pylate": "pylate",
}


@dataclass(frozen=True)
class Trial:
    """One variant with one seed, and where its files go."""

    spec: HeadSpec
    seed: int
    folder: TrialFolder
    key: str

    @property
    def name(self) -> str:
        """The trial as a person reads it."""
        return f"{self.spec} seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether the folder holds this very trial, finished."""
        there = self.folder.read_trial()
        return there is not None and there["status"] == "finished" and there["key"] == self.key


def run_training(config: ExperimentConfig) -> None:
    """Train every trial of an experiment that is not finished yet.

    Raises:
        ProjheadsError: If the data, the backbone or the output folder cannot be used.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with (
        join_processes(config.device) as (processes, device),
        Progress(quiet=not processes.main) as progress,
        claim_folder(config) if processes.main else nullcontext(ExperimentFolder(config.output)) as folder,
    ):
        with processes.main_first():
            data = load_training_data(config)
        for line in data.describe(config.train.data):
            progress.say(line)
        setting = prepare(config.model_copy(update={"device": device}), data)
        _train_all(setting, folder, processes, progress)


def _train_all(setting: Setting, folder: ExperimentFolder, processes: Processes, progress: Progress) -> None:
    """Train the trials that are not finished yet, one after another."""
    config, data = setting.config, setting.data
    for spec in config.heads.variants:
        for warning in head_warnings(new_head(setting, spec, config.seeds[0])):
            progress.say(f"warning: {spec}: {warning}")
    if "untrained" in config.eval.references and processes.main:
        _write_untrained(setting, folder)
    trials = _list_trials(setting, folder)
    pending = [trial for trial in trials if not trial.finished]
    processes.wait()
    steps = count_steps(config.train, len(data.examples))
    progress.say(
        f"{len(trials)} trials ({len(config.heads.variants)} variants x {len(config.seeds)} seeds) of {steps} "
        f"steps with {config.train.batch_size} examples in {config.train.precision} on "
        f"{describe_device(setting.model.device)}; {len(trials) - len(pending)} are finished already"
    )
    if not pending:
        return
    progress.say(
        estimate_line(config, setting.model, data, [trial.spec for trial in pending], encoded=states_at_hand(setting))
    )
    shared = open_states(setting, processes, progress)
    with progress.step("experiment", len(pending) * steps) as advance:
        for number, trial in enumerate(pending, start=1):
            told = _run_trial(setting, shared, trial, folder, processes, progress, advance)
            progress.say(f"[{number}/{len(pending)}] {trial.name}: {told}")


def _list_trials(setting: Setting, folder: ExperimentFolder) -> list[Trial]:
    """List the trials; the key of each names everything that its result depends on."""
    config = setting.config
    training = {
        "train": config.train.model_dump(mode="json", exclude={"log_every", "checkpoint_every", "trackers"}),
        "data": setting.data.hash,
    }
    return [
        Trial(spec, seed, folder.trial(spec.slug, seed), sha256_json(start_key(setting, spec, seed) | training))
        for spec in config.heads.variants
        for seed in config.seeds
    ]


def _run_trial(
    setting: Setting,
    shared: Shared,
    trial: Trial,
    folder: ExperimentFolder,
    processes: Processes,
    progress: Progress,
    advance_experiment: Advance,
) -> str:
    """Train one trial and write its folder; a trial that fails is written as failed, with its reason.

    Returns:
        What to tell of it.
    """
    config = setting.config
    head = new_head(setting, trial.spec, trial.seed).to(setting.model.device)
    model, embed = trial_model(setting, shared, head)
    checkpoint = Checkpoint(trial.folder.checkpoint, trial.key, config.train.checkpoint_every)
    reset_peak_memory(setting.model.device)
    record, failure, reached = TrialRecord(), None, 0
    with (
        progress.step(trial.name, count_steps(config.train, len(setting.data.examples))) as advance,
        open_trackers(config, trial.name, trial.folder.path, main=processes.main) as track,
    ):

        def on_step(step: int, record: TrialRecord) -> None:
            nonlocal reached
            note = f"loss {record.losses[-1]:.3f}, {record.examples_per_s:.0f} examples/s" if record.losses else ""
            advance(step - reached, note)
            advance_experiment(step - reached)
            reached = step

        try:
            with failures_told():
                record = train_trial(
                    config.train, head, model, embed, setting.data, trial.seed,
                    on_step=on_step, on_line=track, checkpoint=checkpoint, processes=processes,
                )  # fmt: skip
                if processes.main:
                    trial.folder.trial_json.unlink(missing_ok=True)
                    write_text(trial.folder.train_jsonl, "".join(f"{json.dumps(line)}\n" for line in record.lines))
                    _save(model or setting.replace(setting.model, head), trial.folder.model, setting, folder)
        except TrainingFailedError as error:
            failure = str(error)
    if processes.main:
        write_json(trial.folder.trial_json, _describe(setting, trial, head, record, failure))
        checkpoint.remove()
    processes.wait()
    return f"FAILED: {failure}" if failure else str(record)


def _save(model: HostModel, path: Path, setting: Setting, folder: ExperimentFolder) -> None:
    """Save a model; where the backbone is frozen, all models of the experiment share one weight file."""
    frozen = setting.config.train.trainable == "head"
    saved = sorted(folder.path.glob("*/*/seed-*/model")) if frozen else []
    save_model(model, path, backbone_from=saved[0] if saved else None)


def _write_untrained(setting: Setting, folder: ExperimentFolder) -> None:
    """Write the baseline's models as training starts from them: a reference row of the leaderboard."""
    baseline = setting.config.heads.baseline
    for seed in setting.config.seeds:
        reference = folder.reference("untrained", seed)
        key = sha256_json(start_key(setting, baseline, seed))
        if reference.reference_json.exists() and read_json(reference.reference_json).get("key") == key:
            continue
        head = new_head(setting, baseline, seed).to(setting.model.device)
        _save(setting.replace(setting.model, head), reference.model, setting, folder)
        write_json(
            reference.reference_json,
            {
                "schema_version": SCHEMA_VERSION,
                "name": "untrained",
                "description": f"{baseline} at its initialisation, before training",
                "seed": seed,
                "key": key,
                "weights_hash": weights_hash(reference.model),
            },
        )


def _describe(setting: Setting, trial: Trial, head: Head, record: TrialRecord, failure: str | None) -> dict[str, Any]:
    """Put a trial into the form of trial.json."""
    config, cost = setting.config, head_cost(head)
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "finished" if failure is None else "failed",
        "error": failure,
        "label": str(trial.spec),
        "slug": trial.spec.slug,
        "head": trial.spec.to_dict(),
        "is_baseline": trial.spec == config.heads.baseline,
        "seed": trial.seed,
        "in_features": setting.model.in_features,
        "out_features": config.heads.out_features,
        "init": config.heads.init,
        "trainable": config.train.trainable,
        "key": trial.key,
        "config_hash": sha256_json(config.model_dump(mode="json")),
        "data_hash": setting.data.hash,
        "weights_hash": weights_hash(trial.folder.model) if failure is None else None,
        "backbone": config.model.backbone,
        "host": setting.model.host,
        "versions": versions(PACKAGES),
        "device": describe_device(setting.model.device),
        "precision": config.train.precision,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "folds": cost.folds,
        "steps": count_steps(config.train, len(setting.data.examples)),
        "learning_rate": config.train.optimizer.head_lr,
        "train": {"loss": record.loss} if failure is None else None,
        "validation": record.validation,
        "timings": {"train_s": record.seconds, "examples_per_s": record.examples_per_s},
        "peak_memory_bytes": peak_memory(setting.model.device),
    }
