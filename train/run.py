"""An experiment's training: every variant with every seed, each trial written once."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiment.claim import claim_folder
from experiment.config import ExperimentConfig
from experiment.device import describe_device, peak_memory, pick_device, reset_peak_memory, resolve_precision
from experiment.fingerprint import backbone_fingerprint, weights_hash
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
from experiment.progress import Advance, Progress, human_time
from experiment.save import save_model
from experiment.seeds import torch_generator
from experiment.tokens import encode_tokens
from projheads import Head, HeadSpec, build_head, head_cost, head_warnings
from projheads.hosts import load_host
from projheads.hosts.base import HostModel
from projheads.init import SAMPLED_INITS
from train.data import TrainingData, load_training_data
from train.embed import Embedder, FrozenEmbedder, LiveEmbedder
from train.estimate import estimate_line
from train.start import old_head
from train.trial import TrainingFailedError, TrialRecord, count_steps, train_trial

__all__ = ["TRAINING_VERSION", "run_training"]

TRAINING_VERSION = 1
"""Raise it by one when a change to the code changes what a trial's training computes."""

PACKAGES = {
    "projheads": "projheads",
    "torch": "torch",
    "transformers": "transformers",
    "sentence-transformers": "sentence-transformers",
    "pylate": "pylate",
}
SAMPLE_TEXTS = 64


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


@dataclass(frozen=True)
class Setting:
    """What all trials of an experiment share.

    Attributes:
        config: The experiment, with the precision that ``auto`` stands for here.
        data: The training pairs.
        model: The pretrained backbone in its host; trials of a frozen backbone put their heads on it.
        backbone_hash: Content hash of the pretrained backbone.
        create: Makes the model anew, from the pretrained backbone and a head.
        replace: Puts another head on a model.
        sample: (n, in_features) token states for the initialisations that look at data; None for the others.
        old: What the backbone's own head folds into, for the initialisation ``preserve``; None for the others.
    """

    config: ExperimentConfig
    data: TrainingData
    model: HostModel
    backbone_hash: str
    create: Callable[[Head], HostModel]
    replace: Callable[[HostModel, Head], HostModel]
    sample: Tensor | None
    old: nn.Linear | None


def run_training(config: ExperimentConfig) -> None:
    """Train every trial of an experiment that is not finished yet.

    Raises:
        ProjheadsError: If the data, the backbone or the output folder cannot be used.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with claim_folder(config) as folder, Progress() as progress:
        data = load_training_data(config)
        for line in data.describe(config.train.data):
            progress.say(line)
        setting = _prepare(config, data)
        config = setting.config
        for spec in config.heads.variants:
            for warning in head_warnings(new_head(setting, spec, config.seeds[0])):
                progress.say(f"warning: {spec}: {warning}")
        if "untrained" in config.eval.references:
            _write_untrained(setting, folder)
        trials = _list_trials(setting, folder)
        pending = [trial for trial in trials if not trial.finished]
        steps = count_steps(config.train, len(data.pairs))
        progress.say(
            f"{len(trials)} trials ({len(config.heads.variants)} variants x {len(config.seeds)} seeds) of {steps} "
            f"steps with {config.train.batch_size} pairs in {config.train.precision} on "
            f"{describe_device(setting.model.device)}; {len(trials) - len(pending)} are finished already"
        )
        if not pending:
            return
        keys = _state_keys(setting) if config.train.trainable == "head" else []
        encoded = all((_state_folder(config, key) / "store.json").exists() for key in keys)
        specs = [trial.spec for trial in pending]
        progress.say(estimate_line(config, setting.model, data, specs, encoded=encoded))
        frozen = _frozen(setting, keys, progress) if keys else None
        with progress.step("experiment", len(pending) * steps) as advance:
            for number, trial in enumerate(pending, start=1):
                told = _run_trial(setting, frozen, trial, folder, progress, advance)
                progress.say(f"[{number}/{len(pending)}] {trial.name}: {told}")


def new_head(setting: Setting, spec: HeadSpec, seed: int) -> Head:
    """Build a head as a trial starts with it: its initialisation depends on the seed and on nothing else."""
    config = setting.config
    return build_head(
        spec,
        setting.model.in_features,
        config.heads.out_features,
        init=config.heads.init,
        generator=torch_generator(seed, "initialisation"),
        sample=setting.sample,
        old=setting.old,
    )


def _prepare(config: ExperimentConfig, data: TrainingData) -> Setting:
    """Load the backbone."""
    device = pick_device(config.device)
    precision = resolve_precision(config.train.precision, device)
    config = config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
    host = load_host(config.model.host)

    def create(head: Head) -> HostModel:
        model: HostModel = host.create(config.model.backbone, head, config.model.settings(), device=str(device))
        return model

    old = old_head(config, host)
    width = host.backbone_width(config.model.backbone)
    model = create(build_head(config.heads.baseline, width, config.heads.out_features))
    sample = None
    if config.heads.init in SAMPLED_INITS:
        texts = data.documents[:SAMPLE_TEXTS]
        sample = torch.tensor(encode_tokens(model, texts, is_query=False, project=False, dtype="float32").vectors)
    return Setting(config, data, model, backbone_fingerprint(model), create, host.replace_head, sample, old)


def _state_keys(setting: Setting) -> list[str]:
    """Name the token states of the training's queries and documents by what they are computed from."""
    config, data = setting.config, setting.data
    shared = [setting.backbone_hash, config.model.model_dump(mode="json"), config.train.precision]
    return [sha256_json([*shared, texts]) for texts in (data.queries, data.documents)]


def _state_folder(config: ExperimentConfig, key: str) -> Path:
    return config.cache / "states" / key[:32]


def _frozen(setting: Setting, keys: list[str], progress: Progress) -> FrozenEmbedder:
    """Open the token states of the training texts in the cache, or compute them into it, once for all trials."""
    config, data = setting.config, setting.data
    stores = []
    for is_query, texts, key in ((True, data.queries, keys[0]), (False, data.documents, keys[1])):
        what = f"{len(texts)} training {'queries' if is_query else 'documents'}"
        started = time.perf_counter()
        with progress.step(f"token states of {what}", len(texts)) as advance:
            store = encode_tokens(
                setting.model,
                texts,
                is_query=is_query,
                project=False,
                precision=config.train.precision,
                folder=_state_folder(config, key),
                key=key,
                progress=advance,
            )
        cut = f"; {store.truncated} are longer than the model takes and were cut" if store.truncated else ""
        progress.say(f"token states of {what}: {human_time(time.perf_counter() - started)}{cut}")
        stores.append(store)
    queries, documents = stores
    return FrozenEmbedder(queries, documents, setting.model.device)


def _start_key(setting: Setting, spec: HeadSpec, seed: int) -> dict[str, Any]:
    """Name everything that a trial's model depends on before its first step."""
    config = setting.config
    start = {} if setting.old is None else {"old": [parameter.tolist() for parameter in setting.old.parameters()]}
    return start | {
        "version": TRAINING_VERSION,
        "model": config.model.model_dump(mode="json"),
        "backbone": setting.backbone_hash,
        "out_features": config.heads.out_features,
        "init": config.heads.init,
        "sample": setting.data.hash if setting.sample is not None else None,
        "head": str(spec),
        "seed": seed,
    }


def _list_trials(setting: Setting, folder: ExperimentFolder) -> list[Trial]:
    """List the trials; the key of each names everything that its result depends on."""
    config = setting.config
    training = {
        "train": config.train.model_dump(mode="json", exclude={"log_every"}),
        "data": setting.data.hash,
    }
    return [
        Trial(spec, seed, folder.trial(spec.slug, seed), sha256_json(_start_key(setting, spec, seed) | training))
        for spec in config.heads.variants
        for seed in config.seeds
    ]


def _run_trial(
    setting: Setting,
    frozen: FrozenEmbedder | None,
    trial: Trial,
    folder: ExperimentFolder,
    progress: Progress,
    advance_experiment: Advance,
) -> str:
    """Train one trial and write its folder; a trial that fails is written as failed, with its reason.

    Returns:
        What to tell of it.
    """
    config, data = setting.config, setting.data
    head = new_head(setting, trial.spec, trial.seed).to(setting.model.device)
    model: HostModel | None = None
    embed: Embedder
    if frozen:
        embed = frozen
    else:
        model = setting.create(head)
        embed = LiveEmbedder(model, data.queries, data.documents)
    reset_peak_memory(setting.model.device)
    record, failure = TrialRecord(), None
    with progress.step(trial.name, count_steps(config.train, len(data.pairs))) as advance:

        def on_step(step: int, loss: float) -> None:
            advance(1, f"loss {loss:.3f}")
            advance_experiment(1)

        try:
            record = train_trial(config.train, head, model, embed, data, trial.seed, on_step)
        except TrainingFailedError as error:
            failure = str(error)
    trial.folder.trial_json.unlink(missing_ok=True)
    if failure is None:
        write_text(trial.folder.train_jsonl, "".join(f"{json.dumps(line)}\n" for line in record.lines))
        _save(model or setting.replace(setting.model, head), trial.folder.model, setting, folder)
    write_json(trial.folder.trial_json, _describe(setting, trial, head, record, failure))
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
        key = sha256_json(_start_key(setting, baseline, seed))
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
        "steps": count_steps(config.train, len(setting.data.pairs)),
        "learning_rate": config.train.optimizer.head_lr,
        "train": {"loss": record.loss} if failure is None else None,
        "validation": record.validation,
        "timings": {"train_s": record.seconds, "examples_per_s": record.examples_per_s},
        "peak_memory_bytes": peak_memory(setting.model.device),
    }
