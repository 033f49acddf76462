"""Read an experiment's result files. Nothing is computed here, and nothing but these files is looked at."""

import json
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.report.groups import group_members, merge_groups
from eval.runs import Run, read_run
from experiment.folder import ExperimentFolder, TrialFolder, read_json
from experiment.yaml12 import read_yaml
from projheads.errors import ProjheadsError

__all__ = ["Evaluation", "Experiment", "InconclusiveError", "Reference", "Texts", "Trial", "load_experiment"]


class InconclusiveError(ProjheadsError):
    """The results are there, but no comparison can be drawn from them."""


@dataclass(frozen=True)
class Evaluation:
    """One trial or reference on one data set: ``eval/<dataset>.json``.

    Attributes:
        dataset: Name, source, split, hash, numbers of documents and queries, notes.
        index: Kind of the index, its settings, and the candidate recall where it is approximate.
        measures: For each measure the score of each query, unrounded.
        timings: Seconds of each phase.
        bytes: Sizes of what was kept.
        truncated: Texts longer than the length that the model is given, by side.
        run: Where the TREC run file lies.
        storage: For each form in which the token vectors were stored, its bytes and its scores.
        parts: For a data set of several collections (``eval.report.groups``), the evaluation of each by its name.
    """

    dataset: Mapping[str, Any]
    index: Mapping[str, Any]
    measures: Mapping[str, Mapping[str, float]]
    timings: Mapping[str, float]
    bytes: Mapping[str, int]
    truncated: Mapping[str, int]
    run: Path
    storage: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parts: Mapping[str, "Evaluation"] = field(default_factory=dict)

    def read_run(self) -> Run:
        """Read the run file, or those of all parts; without what is not there."""
        if self.parts:
            runs = {name: part.read_run() for name, part in self.parts.items()}
            return {
                f"{name}/{query}": [(f"{name}/{document}", score) for document, score in found]
                for name, run in runs.items()
                for query, found in run.items()
            }
        return read_run(self.run) if self.run.exists() else {}


@dataclass(frozen=True)
class Trial:
    """One trial: ``trial.json``, ``train.jsonl`` and its evaluations by data set.

    Attributes:
        record: trial.json as it stands.
        steps: The lines of train.jsonl.
        evaluations: By the data set's name; empty for a trial that failed.
    """

    record: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    evaluations: Mapping[str, Evaluation]

    @property
    def label(self) -> str:
        """The variant, as the configuration writes it."""
        return str(self.record["label"])

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.record["seed"])

    @property
    def error(self) -> str | None:
        """Why the trial failed, in one line; None where it did not."""
        if self.record["status"] == "finished":
            return None
        return str(self.record.get("error") or "no reason was recorded")


@dataclass(frozen=True)
class Reference:
    """One seed of a reference row: what it is, and its evaluations by data set."""

    name: str
    description: str
    seed: int
    evaluations: Mapping[str, Evaluation]


@dataclass(frozen=True)
class Texts:
    """Texts of queries and of documents that stand high in some run, by their ids; shortened by who wrote them."""

    queries: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """Everything that a report is made of.

    Attributes:
        path: The experiment's folder.
        name: Its name.
        description: One sentence of the user's, may be empty.
        config_text: experiment.yaml as it stands; empty where there is none.
        measures: The measures; the first is the one that verdicts are about.
        datasets: Names of the data sets, in the configuration's order.
        trials: All trials, in the configuration's order of variants.
        references: All reference rows.
        command: The command that makes it again.
        remarks: What was left out and why.
        lengths: Tokens of a query and of a document, at most, by side; empty where they are not known.
    """

    path: Path
    name: str
    description: str
    config_text: str
    measures: tuple[str, ...]
    datasets: tuple[str, ...]
    trials: tuple[Trial, ...]
    references: tuple[Reference, ...]
    command: str
    remarks: tuple[str, ...] = ()
    lengths: Mapping[str, int] = field(default_factory=dict)

    def evaluations(self) -> list[Mapping[str, Evaluation]]:
        """Return the evaluations of every trial and reference, each by data set."""
        return _all_evaluations(self.trials, self.references)

    def texts(self, dataset: str) -> Texts:
        """Read the texts of a data set; empty where none were kept."""
        parts = next((one[dataset].parts for one in self.evaluations() if dataset in one), {})
        if parts:
            texts = {name: self.texts(name) for name in parts}
            return Texts(
                {f"{name}/{query}": text for name, one in texts.items() for query, text in one.queries.items()},
                {f"{name}/{document}": text for name, one in texts.items() for document, text in one.documents.items()},
            )
        path = ExperimentFolder(self.path).texts_json(dataset)
        if not path.exists():
            return Texts()
        stored = _object(path)
        return Texts(queries=dict(stored["queries"]), documents=dict(stored["documents"]))


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
    everyone = _all_evaluations(trials, references)
    members, few = group_members(everyone), _too_few(everyone)

    def counted(evaluations: Mapping[str, Evaluation]) -> dict[str, Evaluation]:
        merged = merge_groups(evaluations, members)
        return {name: evaluation for name, evaluation in merged.items() if name not in few}

    trials = [replace(trial, evaluations=counted(trial.evaluations)) for trial in trials]
    references = [replace(reference, evaluations=counted(reference.evaluations)) for reference in references]
    found = [one for evaluations in _all_evaluations(trials, references) for one in evaluations.values()]
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


def _all_evaluations(trials: Sequence[Trial], references: Sequence[Reference]) -> list[Mapping[str, Evaluation]]:
    return [*(trial.evaluations for trial in trials), *(reference.evaluations for reference in references)]


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
    record = _object(folder.trial_json)
    _require(folder.trial_json, record, ("label", "slug", "seed", "status"))
    finished = record["status"] == "finished"
    return Trial(record, _steps(folder.train_jsonl), _evaluations(folder) if finished else {})


def _reference(folder: TrialFolder) -> Reference:
    record = _object(folder.reference_json)
    _require(folder.reference_json, record, ("name", "description", "seed"))
    return Reference(str(record["name"]), str(record["description"]), int(record["seed"]), _evaluations(folder))


def _evaluations(folder: TrialFolder) -> dict[str, Evaluation]:
    found = {}
    for path in sorted(folder.path.glob("eval/*.json")):
        record = _object(path)
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


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise ProjheadsError(f"{path}: not a JSON object; delete it and run the same command again")
    return value


def _require(path: Path, record: Mapping[str, Any], keys: Sequence[str]) -> None:
    missing = [key for key in keys if key not in record]
    if missing:
        raise ProjheadsError(f"{path}: has no {', '.join(missing)}; delete it and run the same command again")
