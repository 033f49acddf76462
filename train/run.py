"""An experiment's training: every variant with every seed, each trial written once."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiment.config import ExperimentConfig
from experiment.device import describe_device, peak_memory, pick_device, reset_peak_memory, resolve_precision
from experiment.fingerprint import backbone_fingerprint, weights_hash
from experiment.folder import (
    SCHEMA_VERSION,
    ExperimentFolder,
    TrialFolder,
    sha256_json,
    versions,
    write_folder,
    write_json,
    write_text,
)
from experiment.seeds import torch_generator
from experiment.tokens import TokenStore, encode_tokens
from projheads import HeadSpec, build_head, head_cost
from projheads.hosts import load_host
from projheads.hosts.base import HostModel
from train.claim import claim_folder
from train.data import TrainingData, load_training_data
from train.embed import Embedder, FrozenEmbedder, LiveEmbedder
from train.progress import Progress
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
        frozen: Token states of the queries and documents; None where the backbone is trained.
        sample: (n, in_features) token states for norm-matched initialisation; None for the other schemes.
    """

    config: ExperimentConfig
    data: TrainingData
    model: HostModel
    backbone_hash: str
    create: Callable[[nn.Module], HostModel]
    replace: Callable[[HostModel, nn.Module], HostModel]
    frozen: FrozenEmbedder | None
    sample: Tensor | None


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
        setting = _prepare(config, data, progress)
        trials = _list_trials(setting, folder)
        pending = [trial for trial in trials if not trial.finished]
        steps = count_steps(config.train, len(data.pairs))
        progress.say(
            f"{len(trials)} trials ({len(config.heads.variants)} variants x {len(config.seeds)} seeds) of {steps} steps "
            f"with {config.train.batch_size} pairs; {len(trials) - len(pending)} are finished already"
        )
        if "untrained" in config.eval.references:
            _write_untrained(setting, folder)
        progress.begin_trials(len(pending), steps)
        for trial in pending:
            _run_trial(setting, trial, folder, progress)


def new_head(setting: Setting, spec: HeadSpec, seed: int) -> nn.Module:
    """Build a head as a trial starts with it: its initialisation depends on the seed and on nothing else."""
    config = setting.config
    return build_head(
        spec,
        setting.model.in_features,
        config.heads.out_features,
        init=config.heads.init,
        generator=torch_generator(seed, "initialisation"),
        sample=setting.sample,
    )


def _prepare(config: ExperimentConfig, data: TrainingData, progress: Progress) -> Setting:
    """Load the backbone and, where it is frozen, compute its token states once for all trials."""
    device = pick_device(config.device)
    precision = resolve_precision(config.train.precision, device)
    config = config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
    host = load_host(config.model.host)

    def create(head: nn.Module) -> HostModel:
        return host.create(config.model.backbone, head, config.model.settings(), device=str(device))

    width = host.backbone_width(config.model.backbone)
    model = create(build_head(config.heads.baseline, width, config.heads.out_features))
    backbone_hash = backbone_fingerprint(model)
    sample, frozen = None, None
    if config.heads.init == "norm-matched":
        texts = data.documents[:SAMPLE_TEXTS]
        sample = torch.tensor(encode_tokens(model, texts, is_query=False, project=False, dtype="float32").vectors)
    if config.train.trainable == "head":
        queries = _states(config, model, backbone_hash, data.queries, True, progress)
        documents = _states(config, model, backbone_hash, data.documents, False, progress)
        frozen = FrozenEmbedder(queries, documents, device)
    return Setting(config, data, model, backbone_hash, create, host.replace_head, frozen, sample)


def _states(
    config: ExperimentConfig, model: HostModel, backbone: str, texts: list[str], is_query: bool, progress: Progress
) -> TokenStore:
    """Open the token states of these texts in the cache, or compute them into it."""
    what = f"{len(texts)} training {'queries' if is_query else 'documents'}"
    key = sha256_json([backbone, config.model.model_dump(mode="json"), config.train.precision, is_query, texts])
    with progress.counting(f"token states of {what}", len(texts)) as advance:
        store = encode_tokens(
            model,
            texts,
            is_query=is_query,
            project=False,
            precision=config.train.precision,
            folder=config.cache / "states" / key[:32],
            key=key,
            progress=advance,
        )
    if store.truncated:
        progress.say(f"{store.truncated} of {what} are longer than the model takes and were cut")
    return store


def _list_trials(setting: Setting, folder: ExperimentFolder) -> list[Trial]:
    config = setting.config
    shared = {
        "version": TRAINING_VERSION,
        "model": config.model.model_dump(mode="json"),
        "out_features": config.heads.out_features,
        "init": config.heads.init,
        "train": config.train.model_dump(mode="json", exclude={"log_every"}),
        "data": setting.data.hash,
        "backbone": setting.backbone_hash,
    }
    return [
        Trial(spec, seed, folder.trial(spec.slug, seed), sha256_json(shared | {"head": str(spec), "seed": seed}))
        for spec in config.heads.variants
        for seed in config.seeds
    ]


def _run_trial(setting: Setting, trial: Trial, folder: ExperimentFolder, progress: Progress) -> None:
    """Train one trial and write its folder; a trial that fails is written as failed, with its reason."""
    config, data = setting.config, setting.data
    head = new_head(setting, trial.spec, trial.seed).to(setting.model.device)
    model: HostModel | None = None
    embed: Embedder
    if setting.frozen:
        embed = setting.frozen
    else:
        model = setting.create(head)
        embed = LiveEmbedder(model, data.queries, data.documents)
    reset_peak_memory(setting.model.device)
    record, failure = TrialRecord(), None
    with progress.trial(trial.name, count_steps(config.train, len(data.pairs))) as on_step:
        try:
            record = train_trial(config.train, head, model, embed, data, trial.seed, on_step)
        except TrainingFailedError as error:
            failure = str(error)
    trial.folder.trial_json.unlink(missing_ok=True)
    if failure is None:
        write_text(trial.folder.train_jsonl, "".join(f"{json.dumps(line)}\n" for line in record.lines))
        _save(model or setting.replace(setting.model, head), trial.folder.model, setting, folder)
    write_json(trial.folder.trial_json, _describe(setting, trial, head, record, failure))
    progress.trial_done(trial.name, record, failure)


def _save(model: HostModel, path: Path, setting: Setting, folder: ExperimentFolder) -> None:
    """Save a model; where the backbone is frozen, all models of the experiment share one weight file."""
    saved = sorted(folder.path.glob("*/*/seed-*/model")) if setting.frozen else []
    with write_folder(path) as temporary:
        model.save(temporary, backbone_from=saved[0] if saved else None)


def _write_untrained(setting: Setting, folder: ExperimentFolder) -> None:
    """Write the baseline's models as training starts from them: a reference row of the leaderboard."""
    baseline = setting.config.heads.baseline
    for seed in setting.config.seeds:
        reference = folder.reference("untrained", seed)
        if reference.reference_json.exists():
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
                "weights_hash": weights_hash(reference.model),
            },
        )


def _describe(
    setting: Setting, trial: Trial, head: nn.Module, record: TrialRecord, failure: str | None
) -> dict[str, Any]:
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
