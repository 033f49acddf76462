"""What a report is made of: an experiment's trials and references with their evaluations, as its files say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.runs import Run, read_run
from experiment.disk.files import read_json
from experiment.disk.layout import ExperimentFolder
from projheads.errors import ProjheadsError

__all__ = [
    "Evaluation",
    "Experiment",
    "InconclusiveError",
    "Reference",
    "Texts",
    "Trial",
    "all_evaluations",
    "read_object",
]


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
        return all_evaluations(self.trials, self.references)

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
        stored = read_object(path)
        return Texts(queries=dict(stored["queries"]), documents=dict(stored["documents"]))


def all_evaluations(trials: Sequence[Trial], references: Sequence[Reference]) -> list[Mapping[str, Evaluation]]:
    """Return the evaluations of every trial and every reference, each by data set."""
    return [*(trial.evaluations for trial in trials), *(reference.evaluations for reference in references)]


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ProjheadsError: If the file is missing or broken, or holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ProjheadsError(f"{path}: not a JSON object; delete it and run the same command again")
    return value
