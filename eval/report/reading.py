"""Read an experiment's result files. Nothing is computed here, and nothing but these files is looked at."""

import json
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.report.groups import group_members, merge_groups
from eval.report.results import (
    Evaluation,
    Experiment,
    InconclusiveError,
    Reference,
    Trial,
    all_evaluations,
    read_object,
)
from experiment.config.yaml12 import read_yaml
from experiment.disk.layout import ExperimentFolder, TrialFolder
from projheads.errors import ProjheadsError

__all__ = ["load_experiment"]


def load_experiment(path: Path) -> Experiment:
    """Read the experiment in a folder.

    Raises:
        ProjheadsError: If there is no trial, or a file is broken; the line names the file.
    """
    folder = ExperimentFolder(path)
    config_text, config = _config(folder.evaluation_yaml if folder.evaluation_yaml.exists() else folder.experiment_yaml)
    trials = [_trial(trial) for trial in folder.trials()]
    if not trials:
        raise ProjheadsError(
            f"{path}: holds no trials (trials/<variant>/seed-<n>/trial.json); train the experiment first"
        )
    references = [_reference(reference) for reference in folder.references()]
    heads, wanted = _section(config, "heads"), _section(config, "eval")
    asked = [dataset for dataset in wanted.get("datasets", []) if isinstance(dataset, dict)]
    if "models" in config:
        trials = _checkpoints(trials, config["models"], {dataset["name"] for dataset in asked})
    _distinct(trials, path)
    order = [str(variant) for variant in heads.get("variants", [trial.label for trial in trials])]
    trials.sort(key=lambda trial: (_place(order, trial.label), trial.label, trial.seed))
    everyone = all_evaluations(trials, references)
    members, few = group_members(everyone), _too_few(everyone)

    def counted(evaluations: Mapping[str, Evaluation]) -> dict[str, Evaluation]:
        merged = merge_groups(evaluations, members)
        return {name: evaluation for name, evaluation in merged.items() if name not in few}

    trials = [replace(trial, evaluations=counted(trial.evaluations)) for trial in trials]
    references = [replace(reference, evaluations=counted(reference.evaluations)) for reference in references]
    found = [one for evaluations in all_evaluations(trials, references) for one in evaluations.values()]
    remarks = [f"{name} is left out: {why}" for name, why in few.items()]
    if few and not found:
        raise InconclusiveError("; ".join(f"{name}: {why}" for name, why in few.items()))
    return Experiment(
        path=path,
        name=str(config.get("name", path.resolve().name)),
        description=str(config.get("description", "")),
        config_text=config_text,
        measures=_ordered(wanted.get("measures", []), [name for one in found for name in one.measures]),
        datasets=_ordered(
            [str(dataset.get("group") or dataset["name"]) for dataset in asked],
            [str(one.dataset["name"]) for one in found],
        ),
        trials=tuple(trials),
        references=tuple(references),
        command=_command(folder, config),
        remarks=tuple(remarks),
        lengths=_lengths(_section(config, "model")),
    )


def _lengths(model: Mapping[str, Any]) -> dict[str, int]:
    names = {"queries": "query_length", "documents": "document_length"}
    return {side: int(model[name]) for side, name in names.items() if model.get(name) is not None}


def _checkpoints(trials: Sequence[Trial], models: Sequence[str], datasets: Collection[str]) -> list[Trial]:
    """Return the checkpoints that were asked for last, with the data sets asked for; the first is the baseline."""
    chosen = []
    for trial in sorted(trials, key=lambda trial: _place(models, str(trial.record.get("checkpoint")))):
        name = trial.record.get("checkpoint")
        if name in models:
            record = dict(trial.record) | {"is_baseline": name == models[0]}
            kept = {name: evaluation for name, evaluation in trial.evaluations.items() if name in datasets}
            chosen.append(replace(trial, record=record, evaluations=kept))
    return chosen


def _too_few(everyone: Sequence[Mapping[str, Evaluation]]) -> dict[str, str]:
    """Say of each data set with a single judged query why nothing can be concluded from it."""
    return {
        name: (
            "it has one judged query, and one query says nothing about how far chance moves a score; "
            f"the scores are in {evaluation.run.with_suffix('.json').name} of each trial"
        )
        for evaluations in reversed(everyone)
        for name, evaluation in evaluations.items()
        if len(next(iter(evaluation.measures.values()))) < 2 and not evaluation.dataset.get("group")
    }


def _command(folder: ExperimentFolder, config: Mapping[str, Any]) -> str:
    """Return the command that makes the results again."""
    if "models" not in config:
        yaml = shlex.quote(folder.experiment_yaml.as_posix())
        return f"python -m train {yaml}\npython -m eval {yaml}"
    models = [f"--model {shlex.quote(str(model))}" for model in config["models"]]
    datasets = [shlex.quote(str(dataset["source"])) for dataset in _section(config, "eval").get("datasets", [])]
    output = shlex.quote(folder.path.as_posix())
    return f"python -m eval {' '.join(models)} --datasets {' '.join(datasets)} --output {output}"


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
    """Return the distinct names found, those that the configuration names first, in its order."""
    distinct = list(dict.fromkeys(found))
    return tuple(sorted(distinct, key=lambda name: _place(wanted, name)))


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _trial(folder: TrialFolder) -> Trial:
    record = read_object(folder.trial_json)
    _require(folder.trial_json, record, ("label", "slug", "seed", "status"))
    finished = record["status"] == "finished"
    return Trial(record, _steps(folder.train_jsonl), _evaluations(folder) if finished else {})


def _reference(folder: TrialFolder) -> Reference:
    record = read_object(folder.reference_json)
    _require(folder.reference_json, record, ("name", "description", "seed"))
    return Reference(str(record["name"]), str(record["description"]), int(record["seed"]), _evaluations(folder))


def _evaluations(folder: TrialFolder) -> dict[str, Evaluation]:
    found = {}
    for path in sorted(folder.path.glob("eval/*.json")):
        record = read_object(path)
        _require(path, record, ("dataset", "measures", "index"))
        name = str(record["dataset"]["name"])
        found[name] = Evaluation(
            dataset=record["dataset"],
            index=record["index"],
            measures=record["measures"],
            timings=record.get("timings", {}),
            bytes=record.get("bytes", {}),
            truncated=record.get("truncated", {}),
            run=folder.eval_run(name),
            storage=record.get("storage", {}),
            linearised=record.get("linearised"),
        )
    return found


def _steps(path: Path) -> list[Mapping[str, Any]]:
    if not path.exists():
        return []
    steps = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            steps.append(json.loads(line))
        except json.JSONDecodeError:
            raise ProjheadsError(
                f"{path}, line {number}: not JSON; delete the trial's folder and train again"
            ) from None
    return steps


def _require(path: Path, record: Mapping[str, Any], keys: Sequence[str]) -> None:
    missing = [key for key in keys if key not in record]
    if missing:
        raise ProjheadsError(f"{path}: has no {', '.join(missing)}; delete it and run the same command again")
