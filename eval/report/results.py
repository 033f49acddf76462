"""What a report is made of: the records of an experiment's trials, reference rows and evaluations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.runs import Qrels, Run, read_qrels, read_run
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import (
    EvaluationRecord,
    QueriesRecord,
    QueryFacts,
    ReferenceRecord,
    RoundsRecord,
    TextsRecord,
    TrainLine,
    TrialRecord,
    axis_text,
    row_label,
)
from projheads.errors import ProjheadsError

__all__ = ["Evaluation", "Experiment", "InconclusiveError", "Reference", "Trial", "all_evaluations"]


class InconclusiveError(ProjheadsError):
    """The results exist, but no comparison can be drawn from them."""


@dataclass(frozen=True)
class Evaluation:
    """One trial or reference row on one data set.

    Attributes:
        record: ``eval/<dataset>.json``; for a data set of several collections, what ``eval.report.groups`` merges.
        path: The record's file; for a data set of several collections, that of the first.
        parts: For a data set of several collections, the evaluation of each by its name.
    """

    record: EvaluationRecord
    path: Path
    parts: Mapping[str, "Evaluation"] = field(default_factory=dict)

    def read_run(self) -> Run:
        """Read the run file, or those of all parts; a missing file counts as empty."""
        if self.parts:
            runs = {name: part.read_run() for name, part in self.parts.items()}
            return {
                f"{name}/{query}": [(f"{name}/{document}", score) for document, score in found]
                for name, run in runs.items()
                for query, found in run.items()
            }
        run = self.path.with_suffix(".run")
        return read_run(run) if run.exists() else {}


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        record: ``trial.json``.
        steps: The lines of ``train.jsonl``.
        evaluations: By data set; empty for a trial that failed.
    """

    record: TrialRecord
    steps: Sequence[TrainLine]
    evaluations: Mapping[str, Evaluation]

    @property
    def label(self) -> str:
        """The variant, as the configuration writes it, and its place on the axes: ``linear @ max_pairs=400``."""
        return row_label(self.record.label, self.record.axes)

    @property
    def axes(self) -> Mapping[str, Any]:
        """The values of the settings that the experiment compares, by the last part of their keys."""
        return {key.rpartition(".")[2]: axis_text(value) for key, value in self.record.axes.items()}

    @property
    def point(self) -> str:
        """The values of the axes as text; empty without axes."""
        return ", ".join(f"{name}={value}" for name, value in self.axes.items())

    @property
    def seed(self) -> int:
        """The seed."""
        return self.record.seed

    @property
    def error(self) -> str | None:
        """Why the trial failed, in one line; None if it did not."""
        if self.record.status == "finished":
            return None
        return self.record.error or "no reason was recorded"


@dataclass(frozen=True)
class Reference:
    """One seed of a reference row.

    Attributes:
        record: ``reference.json``.
        evaluations: By data set.
    """

    record: ReferenceRecord
    evaluations: Mapping[str, Evaluation]

    @property
    def label(self) -> str:
        """Its name, and its place on the axes that it depends on: ``untrained @ out_features=32``."""
        return row_label(self.record.name, self.record.axes)


@dataclass(frozen=True)
class Experiment:
    """Everything that a report is made of.

    Attributes:
        path: The experiment's folder.
        name: Its name.
        description: The user's description in one sentence; may be empty.
        config_text: The text of experiment.yaml; empty if there is none.
        measures: The measures; verdicts are about the first.
        datasets: Names of the data sets, in the configuration's order.
        trials: All trials, in the configuration's order of variants.
        references: All reference rows.
        command: The command that reproduces it.
        remarks: What was left out and why.
        lengths: Maximum number of tokens of a query and of a document, by side; empty if unknown.
        question: The configuration's section ``question``; empty without one.
        rounds: The looks at the verdicts so far; None if none was recorded.
        grids: The grids of variants, as the configuration writes them.
        shared: The evaluated trials at ``shared_rate``, if a sweep chose each variant's own.
        shared_rate: The configured learning rate, which all variants have in common.
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
    question: Mapping[str, Any] = field(default_factory=dict)
    rounds: RoundsRecord | None = None
    grids: tuple[str, ...] = ()
    shared: tuple[Trial, ...] = ()
    shared_rate: float | None = None

    def evaluations(self) -> list[Mapping[str, Evaluation]]:
        """Return the evaluations of every trial and reference, each by data set."""
        return all_evaluations(self.trials, self.references)

    def qrels(self, dataset: str) -> Qrels:
        """Read the judgements of a data set; empty if none were kept."""
        folder = ExperimentFolder(self.path)
        parts = next((one[dataset].parts for one in self.evaluations() if dataset in one), {})
        if not parts:
            return _read_qrels(folder.qrels(dataset))
        return {
            f"{name}/{query}": {f"{name}/{document}": value for document, value in judged.items()}
            for name in parts
            for query, judged in _read_qrels(folder.qrels(name)).items()
        }

    def query_facts(self, dataset: str) -> dict[str, QueryFacts]:
        """Read what is known about each judged query of a data set; empty without ``eval.explain``."""
        folder = ExperimentFolder(self.path)
        parts = next((one[dataset].parts for one in self.evaluations() if dataset in one), {})
        if not parts:
            record = QueriesRecord.find(folder.queries_json(dataset))
            return record.queries if record else {}
        return {f"{name}/{query}": one for name in parts for query, one in self.query_facts(name).items()}

    def texts(self, dataset: str) -> TextsRecord:
        """Read the texts of a data set; empty if none were kept."""
        parts = next((one[dataset].parts for one in self.evaluations() if dataset in one), {})
        if parts:
            texts = {name: self.texts(name) for name in parts}
            return TextsRecord(
                queries={f"{name}/{query}": text for name, one in texts.items() for query, text in one.queries.items()},
                documents={f"{name}/{id}": text for name, one in texts.items() for id, text in one.documents.items()},
            )
        return TextsRecord.find(ExperimentFolder(self.path).texts_json(dataset)) or TextsRecord()


def _read_qrels(path: Path) -> Qrels:
    return read_qrels(path) if path.exists() else {}


def all_evaluations(trials: Sequence[Trial], references: Sequence[Reference]) -> list[Mapping[str, Evaluation]]:
    """Return the evaluations of every trial and every reference, each by data set."""
    return [*(trial.evaluations for trial in trials), *(reference.evaluations for reference in references)]
