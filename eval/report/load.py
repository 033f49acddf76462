"""Read an experiment's result files. Nothing is computed here, and nothing but these files is looked at."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiment.folder import ExperimentFolder, TrialFolder, read_json
from experiment.yaml12 import read_yaml
from projheads.errors import ProjheadsError

__all__ = ["Evaluation", "Experiment", "Reference", "Texts", "Trial", "load_experiment"]


@dataclass(frozen=True)
class Evaluation:
    """One trial or reference on one data set: ``eval/<dataset>.json``.

    Attributes:
        dataset: Name, source, split, hash, numbers of documents and queries, notes.
        index: Kind of the index, its settings, and the candidate recall where it is approximate.
        measures: For each measure the score of each query, unrounded.
        timings: Seconds of each phase.
        bytes: Sizes of what was kept.
        truncated: Texts longer than the model takes, by side.
        run: Where the TREC run file lies.
        linearised: Scores of the head's linear stand-in and how near it comes; None where there is none.
    """

    dataset: Mapping[str, Any]
    index: Mapping[str, Any]
    measures: Mapping[str, Mapping[str, float]]
    timings: Mapping[str, float]
    bytes: Mapping[str, int]
    truncated: Mapping[str, int]
    run: Path
    linearised: Mapping[str, Any] | None = None


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

    def evaluations(self) -> list[Mapping[str, Evaluation]]:
        """Return the evaluations of every trial and reference, each by data set."""
        return _all_evaluations(self.trials, self.references)

    def texts(self, dataset: str) -> Texts:
        """Read the texts of a data set; empty where none were kept."""
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
    trials = [_trial(trial) for trial in folder.trials()]
    if not trials:
        raise ProjheadsError(
            f"{path}: holds no trials (trials/<variant>/seed-<n>/trial.json); train the experiment first"
        )
    references = [_reference(reference) for reference in folder.references()]
    config_text, config = _config(folder.experiment_yaml)
    yaml = shlex.quote(folder.experiment_yaml.as_posix())
    heads, wanted = _section(config, "heads"), _section(config, "eval")
    found = [one for evaluations in _all_evaluations(trials, references) for one in evaluations.values()]
    order = [str(variant) for variant in heads.get("variants", [])]
    _distinct(trials, path)
    trials.sort(key=lambda trial: (_place(order, trial.label), trial.label, trial.seed))
    return Experiment(
        path=path,
        name=str(config.get("name", path.resolve().name)),
        description=str(config.get("description", "")),
        config_text=config_text,
        measures=_ordered(wanted.get("measures", []), [name for one in found for name in one.measures]),
        datasets=_ordered(
            [dataset["name"] for dataset in wanted.get("datasets", []) if isinstance(dataset, dict)],
            [str(one.dataset["name"]) for one in found],
        ),
        trials=tuple(trials),
        references=tuple(references),
        command=f"python -m train {yaml}\npython -m eval {yaml}",
    )


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


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise ProjheadsError(f"{path}: not a JSON object; delete it and run the same command again")
    return value


def _require(path: Path, record: Mapping[str, Any], keys: Sequence[str]) -> None:
    missing = [key for key in keys if key not in record]
    if missing:
        raise ProjheadsError(f"{path}: has no {', '.join(missing)}; delete it and run the same command again")
