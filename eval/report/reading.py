"""Read an experiment's result files. Nothing is computed here, and nothing else is read."""

import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.report.groups import group_members, merge_groups
from eval.report.results import Evaluation, Experiment, InconclusiveError, Reference, Trial, all_evaluations
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.records import EvaluationRecord, ReferenceRecord, RoundsRecord, TrialRecord, read_train_lines
from experiment.disk.yaml12 import read_yaml
from projheads.errors import ProjheadsError

__all__ = ["load_experiment"]


def load_experiment(path: Path) -> Experiment:
    """Read the experiment in a folder.

    Raises:
        ProjheadsError: If there is no trial, or a file is damaged; the line names the file.
    """
    folder = ExperimentFolder(path)
    config_text, config = _config(folder.evaluation_yaml if folder.evaluation_yaml.exists() else folder.experiment_yaml)
    trials = [_trial(trial) for trial in folder.trials()]
    if not trials:
        raise ProjheadsError(
            f"{path}: holds no trials (trials/<variant>/seed-<n>/trial.json); train the experiment first"
        )
    references = [
        Reference(ReferenceRecord.read(reference.reference_json), _evaluations(reference))
        for reference in folder.references()
    ]
    heads, wanted = _section(config, "heads"), _section(config, "eval")
    asked = [dataset for dataset in wanted.get("datasets", []) if isinstance(dataset, dict)]
    if "models" in config:
        trials = _given_models(trials, config["models"], {dataset["name"] for dataset in asked})
    _distinct(trials, path)
    order = [str(variant) for variant in heads.get("variants", [trial.label for trial in trials])]
    axes = _section(config, "axes")
    trials.sort(
        key=lambda trial: (_place(order, trial.record.label), _axis_places(axes, trial), trial.label, trial.seed)
    )
    rate = _shared_rate(config)
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
        name=str(config.get("name", path.resolve().name)),
        description=str(config.get("description", "")),
        config_text=config_text,
        measures=_ordered(wanted.get("measures", []), [name for one in found for name in one.record.measures]),
        datasets=_ordered(
            [str(dataset.get("group") or dataset["name"]) for dataset in asked],
            [one.record.dataset.name for one in found],
        ),
        trials=tuple(trials),
        references=tuple(references),
        command=_command(folder, config),
        remarks=tuple(remarks),
        lengths=_lengths(_section(config, "model")),
        question=_section(config, "question"),
        rounds=RoundsRecord.find(folder.rounds_json),
        grids=tuple(str(grid) for grid in heads.get("grids", [])),
        shared=tuple(shared),
        shared_rate=rate,
    )


def _shared_rate(config: Mapping[str, Any]) -> float | None:
    rate = _section(_section(config, "train"), "optimizer").get("head_lr")
    return float(rate) if isinstance(rate, int | float) else None


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


def _lengths(model: Mapping[str, Any]) -> dict[str, int]:
    names = {"queries": "query_length", "documents": "document_length"}
    return {side: int(model[name]) for side, name in names.items() if model.get(name) is not None}


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


def _command(folder: ExperimentFolder, config: Mapping[str, Any]) -> str:
    """Return the command that reproduces the results."""
    if "models" not in config:
        yaml = shlex.quote(folder.experiment_yaml.as_posix())
        return f"python -m train {yaml}\npython -m eval {yaml}"
    sources = [str(dataset["source"]) for dataset in _section(config, "eval").get("datasets", [])]
    options = [("--model", str(model)) for model in config["models"]] + [("--datasets", source) for source in sources]
    output = shlex.quote(folder.path.as_posix())
    return f"python -m eval {' '.join(f'{name} {shlex.quote(value)}' for name, value in options)} --output {output}"


def _distinct(trials: Sequence[Trial], path: Path) -> None:
    counted = Counter((trial.label, trial.seed) for trial in trials)
    for (label, seed), count in counted.items():
        if count > 1:
            raise ProjheadsError(f"{path}: has {count} trials of {label} with seed {seed}; keep one of their folders")


def _config(path: Path) -> tuple[str, dict[str, Any]]:
    if not path.exists():
        return "", {}
    text = path.read_text(encoding="utf-8")
    config, _ = read_yaml(text, str(path))
    return text, config if isinstance(config, dict) else {}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}


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
