"""Read an experiment's result files. Nothing is computed here, and nothing else is read."""

import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.report.groups import group_members, merge_groups
from eval.report.results import Evaluation, Experiment, InconclusiveError, Reference, Trial, all_evaluations
from eval.report.stored_config import StoredConfig, StoredModel, read_stored_config
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.records import EvaluationRecord, ReferenceRecord, RoundsRecord, TrialRecord, read_train_lines
from projheads.errors import ProjheadsError

__all__ = ["load_experiment"]


def load_experiment(path: Path) -> Experiment:
    """Read the experiment in a folder.

    Raises:
        ProjheadsError: If there is no trial, or a file is damaged; the line names the file.
    """
    folder = ExperimentFolder(path)
    config = read_stored_config(folder)
    trials = [_trial(trial) for trial in folder.trials()]
    if not trials:
        raise ProjheadsError(
            f"{path}: holds no trials (trials/<variant>/seed-<n>/trial.json); train the experiment first"
        )
    references = [
        Reference(ReferenceRecord.read(reference.reference_json), _evaluations(reference))
        for reference in folder.references()
    ]
    # A row without axes beside rows of the same name with them is from before the experiment had axes.
    with_axes = {one.record.name for one in references if one.record.axes} if config.axes else set()
    references = [one for one in references if bool(one.record.axes) == (one.record.name in with_axes)]
    asked = config.eval.datasets
    if config.models is not None:
        trials = _given_models(trials, config.models, {dataset.name for dataset in asked})
    _distinct(trials, path)
    order = [trial.label for trial in trials] if config.heads.variants is None else config.heads.variants
    trials.sort(
        key=lambda trial: (_place(order, trial.record.label), _axis_places(config.axes, trial), trial.label, trial.seed)
    )
    rate = config.train.optimizer.head_lr
    shared = _shared_trials(folder, trials, rate)
    everyone = all_evaluations(trials, references)
    members, few = group_members(everyone), _too_few(everyone)

    def counted(evaluations: Mapping[str, Evaluation]) -> dict[str, Evaluation]:
        merged = merge_groups(evaluations, members)
        return {name: evaluation for name, evaluation in merged.items() if name not in few}

    trials = [replace(trial, evaluations=counted(trial.evaluations)) for trial in trials]
    references = [replace(reference, evaluations=counted(reference.evaluations)) for reference in references]
    shared = [replace(trial, evaluations=counted(trial.evaluations)) for trial in shared]
    found = [one for evaluations in all_evaluations(trials, references) for one in evaluations.values()]
    remarks = [f"{name} is left out: {why}" for name, why in few.items()]
    if few and not found:
        raise InconclusiveError("; ".join(f"{name}: {why}" for name, why in few.items()))
    return Experiment(
        path=path,
        name=path.resolve().name if config.name is None else config.name,
        description=config.description,
        config_text=config.text,
        measures=_ordered(config.eval.measures, [name for one in found for name in one.record.measures]),
        datasets=_ordered(
            [dataset.group or dataset.name for dataset in asked],
            [one.record.dataset.name for one in found],
        ),
        trials=tuple(trials),
        references=tuple(references),
        command=_command(folder, config),
        remarks=tuple(remarks),
        lengths=_lengths(config.model),
        question=config.question or {},
        rounds=RoundsRecord.find(folder.rounds_json),
        grids=config.heads.grids,
        shared=tuple(shared),
        shared_rate=rate,
    )


def _shared_trials(folder: ExperimentFolder, trials: Sequence[Trial], rate: float | None) -> list[Trial]:
    """Return the evaluated trials of a sweep at the configured learning rate; none without a sweep."""
    swept = {(trial.label, trial.seed) for trial in trials if trial.record.sweep}
    found = {(trial.label, trial.seed): trial for trial in trials if trial.record.learning_rate == rate}
    for path in sorted(folder.path.glob("sweep/*/*/seed-*/trial.json")):
        candidate = TrialFolder(path.parent)
        if any(candidate.evaluations.glob("*.json")):
            trial = _trial(candidate)
            if trial.record.learning_rate == rate and trial.error is None:
                found.setdefault((trial.label, trial.seed), trial)
    return [trial for key, trial in found.items() if key in swept]


def _lengths(model: StoredModel) -> dict[str, int]:
    lengths = {"queries": model.query_length, "documents": model.document_length}
    return {side: length for side, length in lengths.items() if length is not None}


def _given_models(trials: Sequence[Trial], models: Sequence[str], datasets: Collection[str]) -> list[Trial]:
    """Return the models and data sets of the last command; the first model is the baseline."""
    chosen = []
    for trial in sorted(trials, key=lambda trial: _place(models, str(trial.record.checkpoint))):
        name = trial.record.checkpoint
        if name in models:
            record = trial.record.replace(is_baseline=name == models[0])
            kept = {name: evaluation for name, evaluation in trial.evaluations.items() if name in datasets}
            chosen.append(replace(trial, record=record, evaluations=kept))
    return chosen


def _too_few(everyone: Sequence[Mapping[str, Evaluation]]) -> dict[str, str]:
    """Return the data sets with a single judged query, and why nothing can be concluded from them."""
    return {
        name: (
            "it has one judged query, which says nothing about how much of a score is chance; "
            f"the scores are in {evaluation.path.name} of each trial"
        )
        for evaluations in reversed(everyone)
        for name, evaluation in evaluations.items()
        if len(evaluation.record.queries) < 2 and not evaluation.record.dataset.group
    }


def _command(folder: ExperimentFolder, config: StoredConfig) -> str:
    """Return the command that reproduces the results."""
    if config.models is None:
        yaml = shlex.quote(folder.experiment_yaml.as_posix())
        return f"python -m train {yaml}\npython -m eval {yaml}"
    sources = [("--datasets", dataset.source) for dataset in config.eval.datasets]
    options = [*(("--model", model) for model in config.models), *sources]
    output = shlex.quote(folder.path.as_posix())
    return f"python -m eval {' '.join(f'{name} {shlex.quote(value)}' for name, value in options)} --output {output}"


def _distinct(trials: Sequence[Trial], path: Path) -> None:
    counted = Counter((trial.label, trial.seed) for trial in trials)
    for (label, seed), count in counted.items():
        if count > 1:
            raise ProjheadsError(f"{path}: has {count} trials of {label} with seed {seed}; keep one of their folders")


def _ordered(wanted: Sequence[str], found: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct names found; those that the configuration lists come first, in its order."""
    distinct = list(dict.fromkeys(found))
    return tuple(sorted(distinct, key=lambda name: _place(wanted, name)))


def _axis_places(axes: Mapping[str, Any], trial: Trial) -> list[int]:
    return [_place(axes[key], value) for key, value in trial.record.axes.items() if key in axes]


def _place(order: Sequence[Any], name: Any) -> int:
    return order.index(name) if name in order else len(order)


def _trial(folder: TrialFolder) -> Trial:
    record = TrialRecord.read(folder.trial_json)
    evaluations = _evaluations(folder) if record.status == "finished" else {}
    return Trial(record, read_train_lines(folder.train_jsonl), evaluations)


def _evaluations(folder: TrialFolder) -> dict[str, Evaluation]:
    read = [Evaluation(EvaluationRecord.read(path), path) for path in sorted(folder.evaluations.glob("*.json"))]
    return {one.record.dataset.name: one for one in read}
