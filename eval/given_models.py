"""Evaluation of any multi-vector checkpoint of a host, with no experiment around it.

Each checkpoint has a folder in the layout of a trial, so that the leaderboard and ``compare`` read it as one; its seed
is 0, whatever it was trained with. ``evaluation.yaml`` says which of them, and which data sets, were asked for last.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eval.embed import Encoding
from eval.evaluate import evaluate_subjects
from eval.model_files import BackboneIdentities
from eval.search.choice import check_search, search_settings
from eval.subjects import Subject
from experiment.config import CheckpointsConfig
from experiment.config.load import dump_config
from experiment.console.progress import Progress
from experiment.disk.files import SCHEMA_VERSION, sha256_json, write_json, write_text
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.models import weights_hash
from experiment.encoding.device import pick_device, resolve_precision
from projheads.cost import head_cost
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.hosts import detect_host, load_host
from projheads.hosts.backbone import resolve_backbone
from projheads.hosts.base import OpenOptions
from projheads.hosts.common import TokenView
from projheads.hosts.dense_chain import from_dense_chain

__all__ = ["evaluate_checkpoints", "list_checkpoints"]


def evaluate_checkpoints(config: CheckpointsConfig, progress: Progress) -> None:
    """Evaluate checkpoints on every data set, as far as they are not evaluated yet.

    Raises:
        ProjheadsError: If a checkpoint, a data set or the index cannot be used, the folder holds an experiment, or an
            evaluation failed; the others are done before that is raised.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    folder = ExperimentFolder(config.output)
    if folder.experiment_yaml.exists():
        raise ProjheadsError(f"{config.output}: holds an experiment; give the checkpoints another --output")
    device = pick_device(config.device)
    searching = search_settings(config.eval)
    encoding = Encoding(
        device=device,
        precision=resolve_precision(config.eval.precision, device),
        batch_tokens=config.eval.batch_tokens,
        cache=config.cache,
        trust_remote_code=config.trust_remote_code,
    )
    subjects = list_checkpoints(config, progress.say)
    for width in {subject.out_features for subject in subjects}:
        check_search(searching, width)
    text = dump_config(config)
    if not folder.evaluation_yaml.exists() or folder.evaluation_yaml.read_text(encoding="utf-8") != text:
        write_text(folder.evaluation_yaml, text)
    evaluate_subjects(subjects, config.eval, encoding, folder, BackboneIdentities(), progress)


def list_checkpoints(config: CheckpointsConfig, say: Callable[[str], None]) -> list[Subject]:
    """Find the checkpoints, and write into a folder for each what it is.

    A trial's saved model whose backbone was frozen is evaluated as in its experiment, by way of token states that other
    heads of the backbone share, and so gives the same numbers to the last digit.

    Raises:
        ProjheadsError: If one is not there, is no multi-vector checkpoint, or cannot be opened.
    """
    subjects = []
    options = OpenOptions(trust_remote_code=config.trust_remote_code)
    models = {name: resolve_backbone(name, options) for name in config.models}
    for name, label in _labels(models).items():
        model = models[name]
        host = detect_host(model) if config.host == "auto" else config.host
        weights = weights_hash(model)
        files = ExperimentFolder(config.output).trial(_slug(name), 0)
        about = files.read_trial()
        if about is None or [about["label"], about["weights_hash"], about["host"]] != [label, weights, host]:
            facts = _facts(model, host, options)
            about = _record(name, label, host, weights) | facts
            write_json(files.trial_json, about)
        say(f"{label}: a checkpoint of {host}, {about['in_features']} -> {about['out_features']} features")
        trial = TrialFolder(model.parent).read_trial()
        frozen = trial is not None and trial.get("trainable") == "head" and trial["weights_hash"] == weights
        subjects.append(
            Subject(
                name=label,
                folder=files,
                identity=sha256_json([weights, host]),
                kind="model",
                model=model,
                host=host,
                frozen=frozen,
                multiply_adds=about["multiply_adds"],
                out_features=about["out_features"],
                family=weights,
                kept=True,
            )
        )
    return subjects


def _slug(name: str) -> str:
    """Return a folder's name for a checkpoint: the end of its name, readable, and a hash of the whole."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:]
    return f"{readable}-{sha256_json(name)[:8]}".lstrip("-.")


def _labels(models: Mapping[str, Path]) -> dict[str, str]:
    """Return what each checkpoint is called in tables: its name, but for a trial's model the trial."""
    labels = {}
    for name, model in models.items():
        trial = TrialFolder(model.parent).read_trial()
        experiment = model.parents[3].name if trial is not None and len(model.parents) > 3 else ""
        labels[name] = f"{experiment}: {trial['label']} seed {trial['seed']}" if trial is not None else name
    counts = Counter(labels.values())
    return {name: label if counts[label] == 1 else name for name, label in labels.items()}


def _record(name: str, label: str, host: str, weights: str) -> dict[str, Any]:
    """Describe a checkpoint as a trial.json does; what only training knows is left out."""
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "finished",
        "error": None,
        "label": label,
        "slug": _slug(name),
        "checkpoint": name,
        "seed": 0,
        "is_baseline": False,
        "host": host,
        "weights_hash": weights,
        "timings": {},
    }


def _facts(model: Path, host: str, options: OpenOptions) -> dict[str, Any]:
    """Open a checkpoint and return its widths, and what its head is and costs."""
    opened = load_host(host).load(str(model), options)
    widths = {"in_features": opened.in_features, "out_features": opened.out_features}
    return widths | _head_facts(opened.head)


def _head_facts(module: nn.Module) -> dict[str, Any]:
    """Return what a head is and costs; a host's own chain is read as a head where it is one."""
    head: Head | None = module if isinstance(module, Head) else None
    if head is None:
        try:
            head = from_dense_chain(view.module for view in module.children() if isinstance(view, TokenView))
        except ProjheadsError:
            matrices = [parameter.numel() for parameter in module.parameters() if parameter.ndim == 2]
            parameters = sum(parameter.numel() for parameter in module.parameters())
            return {"head": None, "parameters": parameters, "multiply_adds": sum(matrices), "folds": False}
    cost = head_cost(head)
    return {
        "head": head.spec.to_dict(),
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "folds": cost.folds,
    }
