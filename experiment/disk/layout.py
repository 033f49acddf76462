"""An experiment's folder: where each file of a trial, a reference row and a report is.

Training and evaluation meet in these files and nowhere else.
"""

from dataclasses import dataclass
from pathlib import Path

from experiment.disk.files import remove_leftovers
from experiment.disk.records import TrialRecord
from projheads.errors import ProjheadsError

__all__ = ["ExperimentFolder", "TrialFolder", "check_can_be_folder"]


def check_can_be_folder(path: Path) -> None:
    """Check that a folder is there or can be made.

    Raises:
        ProjheadsError: If the path, or one above it, is not a folder.
    """
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ProjheadsError(f"{path}: cannot be a folder, because {there} is a file; choose a different path")


@dataclass(frozen=True)
class TrialFolder:
    """Where the files of one trial, or of one reference row, lie."""

    path: Path

    @property
    def trial_json(self) -> Path:
        """What the trial was, how it went and what it cost."""
        return self.path / "trial.json"

    @property
    def reference_json(self) -> Path:
        """What the reference row is; only in the folders of reference rows."""
        return self.path / "reference.json"

    @property
    def train_jsonl(self) -> Path:
        """One line a logged step."""
        return self.path / "train.jsonl"

    @property
    def model(self) -> Path:
        """The model, as the host opens it."""
        return self.path / "model"

    @property
    def resume(self) -> Path:
        """Resume points of the training; deleted once the trial is finished."""
        return self.path / "resume"

    def eval_json(self, dataset: str) -> Path:
        """Per-query measures on a data set, by the name that the configuration gives it."""
        return self.evaluations / f"{dataset}.json"

    def eval_run(self, dataset: str) -> Path:
        """The TREC run file on a data set."""
        return self.evaluations / f"{dataset}.run"

    def explain_json(self, dataset: str) -> Path:
        """What the diagnostics found on a data set."""
        return self.path / "explain" / f"{dataset}.json"

    @property
    def evaluations(self) -> Path:
        """Folder of the evaluations on all data sets."""
        return self.path / "eval"

    def remove_leftovers(self) -> None:
        """Delete what killed evaluations left half-written."""
        remove_leftovers(self.evaluations)
        remove_leftovers(self.path / "explain")

    def read_trial(self) -> TrialRecord | None:
        """Read trial.json; None if the trial neither finished nor failed yet.

        Raises:
            ProjheadsError: If the file is damaged.
        """
        return TrialRecord.find(self.trial_json)

    @property
    def is_finished(self) -> bool:
        """Whether the trial was trained successfully."""
        record = self.read_trial()
        return record is not None and record.status == "finished"


@dataclass(frozen=True)
class ExperimentFolder:
    """Where the files of one experiment lie."""

    path: Path

    @property
    def experiment_yaml(self) -> Path:
        """The resolved configuration: every default written out."""
        return self.path / "experiment.yaml"

    @property
    def evaluation_yaml(self) -> Path:
        """Which models were evaluated last, and how; only in a folder of given models."""
        return self.path / "evaluation.yaml"

    def remake(self, config_file: Path) -> str:
        """Return the command that writes a damaged or missing configuration again; finished work is kept."""
        if config_file == self.evaluation_yaml:
            return f"rerun python -m eval --model with the same models and --output {self.path}, which writes it again"
        return "rerun python -m train or python -m eval with the experiment's own YAML file, which writes it again"

    @property
    def rounds_json(self) -> Path:
        """What each look at the verdicts saw, and which seeds are trained next."""
        return self.path / "rounds.json"

    @property
    def confirming(self) -> Path:
        """The folder of the experiment that compares the winner with the baseline on new seeds."""
        return self.path.with_name(f"{self.path.name}-confirm")

    @property
    def report(self) -> Path:
        """The folder of the leaderboard."""
        return self.path / "report"

    def texts_json(self, dataset: str) -> Path:
        """Texts of a data set's queries and of the documents that stand high in some run."""
        return self.path / "texts" / f"{dataset}.json"

    @property
    def words_json(self) -> Path:
        """How many texts of the training data have each word."""
        return self.path / "words.json"

    def queries_json(self, dataset: str) -> Path:
        """What is known about each judged query of a data set."""
        return self.path / "queries" / f"{dataset}.json"

    def qrels(self, dataset: str) -> Path:
        """Judgements of a data set as a TREC file, with ids spelled as in the run files."""
        return self.path / "qrels" / f"{dataset}.qrels"

    def trial(self, slug: str, seed: int) -> TrialFolder:
        """Return the folder of one trial."""
        return TrialFolder(self.path / "trials" / slug / f"seed-{seed}")

    def candidate(self, slug: str, point: str, seed: int) -> TrialFolder:
        """Return the folder of one trial of a sweep, by the name of its point."""
        return TrialFolder(self.path / "sweep" / slug / point / f"seed-{seed}")

    def models(self) -> list[Path]:
        """List the saved models, in the order of their names."""
        return sorted([*self.path.glob("*/*/seed-*/model"), *self.path.glob("sweep/*/*/seed-*/model")])

    def reference(self, name: str, seed: int = 0) -> TrialFolder:
        """Return the folder of one reference row."""
        return TrialFolder(self.path / "references" / name / f"seed-{seed}")

    def remove_leftovers(self) -> None:
        """Delete what killed commands left half-written, only in the folders that belong to an experiment."""
        remove_leftovers(self.path, recursive=False)
        for name in ("trials", "sweep", "references", "report", "texts", "qrels", "queries"):
            remove_leftovers(self.path / name)

    def trials(self) -> list[TrialFolder]:
        """List the trials with a trial.json, in the order of their names."""
        return [TrialFolder(file.parent) for file in sorted(self.path.glob("trials/*/seed-*/trial.json"))]

    def candidates(self) -> list[TrialFolder]:
        """List the trials of sweeps with a trial.json, in the order of their names."""
        return [TrialFolder(file.parent) for file in sorted(self.path.glob("sweep/*/*/seed-*/trial.json"))]

    def references(self) -> list[TrialFolder]:
        """List the reference rows with a reference.json, in the order of their names."""
        return [TrialFolder(file.parent) for file in sorted(self.path.glob("references/*/seed-*/reference.json"))]
