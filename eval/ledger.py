"""Which evaluations of a data set are on disk, and which are still missing."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.evaluation_record import Form, evaluation_key, is_finished, missing_forms
from eval.explain import Diagnostic
from eval.explain.explainer import Explainer
from eval.search_task import SearchTask
from eval.subjects import Subject
from experiment.config.search_forms import parse_search
from experiment.config.storage_forms import parse_storage
from experiment.disk.records import EvaluationRecord

__all__ = ["Ledger"]


@dataclass(frozen=True)
class Ledger:
    """Compares what the configuration asks for on one data set with what is on disk.

    Attributes:
        task: The data set.
        precision: Arithmetic of backbone and head, on which results depend.
    """

    task: SearchTask
    precision: str

    @property
    def forms(self) -> list[Form]:
        """The storage forms and further searches that the configuration asks for, in its order."""
        settings = self.task.settings
        return [*map(parse_storage, settings.storage), *map(parse_search, settings.searches)]

    def key(self, subject: Subject, *, streamed: bool = False) -> str:
        """Hash everything that the evaluation of a subject depends on; see ``evaluation_key``."""
        return evaluation_key(subject, self.task, self.precision, streamed=streamed)

    def has_run(self, subject: Subject) -> bool:
        """Return whether the evaluation itself is on disk, with or without other forms."""
        return is_finished(subject, self.task.dataset.name, self._keys(subject))

    def _keys(self, subject: Subject) -> set[str]:
        """Return the keys of an evaluation, stored or streamed."""
        exact = self.task.settings.index in ("auto", "exact")
        return {self.key(subject), *([self.key(subject, streamed=True)] if exact else [])}

    def missing_forms(self, subject: Subject) -> list[Form]:
        """Return the forms in which an evaluated subject has not been evaluated yet."""
        if subject.kind != "model":
            return []
        record = EvaluationRecord.read(subject.folder.eval_json(self.task.dataset.name))
        return missing_forms(record, self.forms, self.task.settings)

    @property
    def explainer(self) -> Explainer:
        """Computes the diagnostics that the configuration asks for."""
        return Explainer(self.task.dataset.name, self.task.settings)

    def missing_diagnostics(self, subject: Subject) -> list[Diagnostic]:
        """Return the diagnostics that have not been computed yet of an evaluated subject."""
        record = EvaluationRecord.find(subject.folder.eval_json(self.task.dataset.name))
        return self.explainer.missing(subject, record.key if record else self.key(subject))

    def is_finished(self, subject: Subject) -> bool:
        """Return whether everything that is asked for is on disk."""
        return self.has_run(subject) and not self.missing_forms(subject) and not self.missing_diagnostics(subject)

    def pending(self, subjects: Sequence[Subject]) -> list[Subject]:
        """Return the subjects that are not finished."""
        return [subject for subject in subjects if not self.is_finished(subject)]
