"""Evaluation of any multi-vector model of a host, without an experiment.

Each model has a folder in the layout of a trial, so that the leaderboard and ``compare`` read it as one; its seed
is 0, whatever it was trained with. ``evaluation.yaml`` lists the models and data sets of the last command.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from eval.embed import Encoding
from eval.evaluate import evaluate_subjects
from eval.search.choice import check_search, search_settings
from eval.search.compressed import check_forms
from eval.search.fast import check_searches
from eval.subjects import Subject
from experiment.claim import store_config
from experiment.config import GivenModelsConfig
from experiment.console.progress import Progress
from experiment.disk.files import sha256_json
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.models import weights_hash
from experiment.disk.records import TrialRecord
from experiment.encoding.device import pick_device, resolve_precision
from projheads.cost import HeadCost, head_cost
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.hosts import detect_host, load_host
from projheads.hosts.backbone import resolve_backbone
from projheads.hosts.base import HostModel
from projheads.hosts.common import TokenView
from projheads.hosts.dense_chain import from_dense_chain

__all__ = ["evaluate_given_models", "list_given_models"]


SLUG_LENGTH = 60
"""Characters of a folder's name that are the model's name."""


def evaluate_given_models(config: GivenModelsConfig, progress: Progress) -> None:
    """Evaluate models on every data set; finished evaluations are not repeated.

    Raises:
        ProjheadsError: If a model, a data set or the index cannot be used, the folder holds an experiment, or an
            evaluation failed; the others are done before that is raised.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    folder = ExperimentFolder(config.output)
    if folder.experiment_yaml.exists():
        raise ProjheadsError(f"{config.output}: holds an experiment; choose a different --output for models")
    device = pick_device(config.device)
    searching = search_settings(config.eval)
    encoding = Encoding(
        device=device,
        precision=resolve_precision(config.eval.precision, device),
        batch_tokens=config.eval.batch_tokens,
        cache=config.cache,
        dtype=config.eval.vector_dtype,
    )
    subjects = list_given_models(config, progress.say)
    for width in {subject.out_features for subject in subjects}:
        check_search(searching, width)
        check_forms(config.eval.storage, width)
        check_searches(config.eval.searches, width)
    evaluate_subjects(subjects, config.eval, encoding, folder, progress)
    store_config(config, folder.evaluation_yaml)


def list_given_models(config: GivenModelsConfig, say: Callable[[str], None]) -> list[Subject]:
    """Find the models, and write the record of each into its folder.

    The saved model of a trial with a frozen backbone is evaluated as in its experiment, from token states that other
    heads on the backbone share, so its numbers are the same to the last digit.

    Raises:
        ProjheadsError: If one does not exist, is not a multi-vector model, or cannot be opened.
    """
    subjects = []
    models = {name: resolve_backbone(*config.opened(name)) for name in config.models}
    for name, label in _labels(models).items():
        model, options = models[name], config.opened(name)[1]
        host = detect_host(model) if config.host == "auto" else config.host
        weights = weights_hash(model)
        files = ExperimentFolder(config.output).trial(_slug(name), 0)
        record = files.read_trial()
        if record is None or (record.label, record.weights_hash, record.host) != (label, weights, host):
            opened = load_host(host).load(str(model), options)
            record = _record(name, label, host, weights, opened)
            record.write(files.trial_json)
        say(f"{label}: a {host} model, {record.in_features} -> {record.out_features} features")
        trial = TrialFolder(model.parent).read_trial()
        if trial is not None and trial.weights_hash != weights:
            raise ProjheadsError(
                f"{model}: damaged (its files are not those that training saved); train it again, or copy the folder "
                "elsewhere to evaluate it as it is"
            )
        frozen = trial is not None and trial.trainable == "head"
        subjects.append(
            Subject(
                name=label,
                folder=files,
                fingerprint=sha256_json([weights, host]),
                kind="model",
                model=model,
                host=host,
                frozen=frozen,
                multiply_adds=record.multiply_adds,
                out_features=record.out_features,
                backbone=weights,
                kept=True,
                options=options,
            )
        )
    return subjects


def _slug(name: str) -> str:
    """Return the name of a model's folder: the last parts of the model's name that fit, and a hash of all of it."""
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-.")[:SLUG_LENGTH] for part in re.split(r"[/\\]", name)]
    readable = ""
    for part in reversed([part for part in parts if part]):
        longer = f"{part}-{readable}" if readable else part
        if len(longer) > SLUG_LENGTH:
            break
        readable = longer
    return f"{readable}-{sha256_json(name)[:8]}".lstrip("-.")


def _labels(models: Mapping[str, Path]) -> dict[str, str]:
    """Return what tables call each model: its name, or the trial if it is the model of one."""
    labels = {}
    for name, model in models.items():
        trial = TrialFolder(model.parent).read_trial()
        experiment = model.parents[3].name if trial is not None and len(model.parents) > 3 else ""
        labels[name] = f"{experiment}: {trial.label} seed {trial.seed}" if trial is not None else name
    counts = Counter(labels.values())
    return {name: label if counts[label] == 1 else name for name, label in labels.items()}


def _record(name: str, label: str, host: str, weights: str, opened: HostModel) -> TrialRecord:
    """Make the record of a given model; the facts of its training stay empty."""
    head = _head(opened.head)
    cost = _matrix_cost(opened.head) if head is None else head_cost(head)
    return TrialRecord(
        status="finished",
        label=label,
        slug=_slug(name),
        checkpoint=name,
        head=None if head is None else head.spec.to_dict(),
        is_baseline=False,
        seed=0,
        in_features=opened.in_features,
        out_features=opened.out_features,
        weights_hash=weights,
        host=host,
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        inference_multiply_adds=cost.inference_multiply_adds,
        folds=cost.folds,
    )


def _head(module: nn.Module) -> Head | None:
    """Return a module as a head; a host's own chain is read as one, and None if it is not one."""
    if isinstance(module, Head):
        return module
    try:
        return from_dense_chain(view.module for view in module.children() if isinstance(view, TokenView))
    except ProjheadsError:
        return None


def _matrix_cost(module: nn.Module) -> HeadCost:
    """Count the cost of a module that is not a head by its matrices."""
    parameters = list(module.parameters())
    matrices = sum(parameter.numel() for parameter in parameters if parameter.ndim == 2)
    count = sum(parameter.numel() for parameter in parameters)
    return HeadCost(count, matrices, matrices, None, False, type(module).__name__)
