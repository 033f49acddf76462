"""Evaluation of one subject on one data set: embed, search, measure, write."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from eval.embed import Encoded, Encoding, SubjectEncoder
from eval.evaluation_record import Form, evaluation_record, recall_of, storage_entry, with_storage
from eval.explain import Given
from eval.ledger import Ledger
from eval.runs import read_run, write_run
from eval.search.choice import Answer, search_settings
from eval.search.compressed import stored_as
from eval.search.fast import Setup, fast_search, rescored
from eval.search.ranking import Problem, Ranking
from eval.search_task import SearchTask
from eval.stand_in import linear_stand_in
from eval.subjects import Subject
from experiment.collections import Collection, open_collection
from experiment.config import EvalConfig, EvalDatasetRef
from experiment.config.search_forms import SearchForm
from experiment.console.progress import Advance, Progress, human_time
from experiment.disk.lock import locked
from experiment.disk.records import EvaluationRecord, StandIn, StorageEntry
from experiment.encoding.device import pick_device
from experiment.encoding.store import TokenStore
from projheads.errors import ProjheadsError

__all__ = ["Evaluator", "Found", "InProgressError", "make_evaluator"]


class InProgressError(ProjheadsError):
    """Another process is evaluating this subject."""


@dataclass(frozen=True)
class Evaluator:
    """Evaluates subjects on one data set, in this process or, by its recipe, in others.

    Attributes:
        task: The data set.
        ledger: Knows what is on disk.
        encoder: Embeds the data set's texts.
        encoding: How texts are encoded.
        progress: Where it shows what it is doing.
        waits: Whether to wait for a subject that another process is evaluating.
    """

    task: SearchTask
    ledger: Ledger
    encoder: SubjectEncoder
    encoding: Encoding
    progress: Progress
    waits: bool = False

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self.encoding.device

    def __call__(self, subject: Subject, /, progress: Progress, advance: Advance) -> str:
        """Evaluate one subject, write its files and return a summary.

        Raises:
            InProgressError: If another process is evaluating it and this one does not wait.
            ProjheadsError: If it cannot be evaluated.
        """
        with locked(subject.folder.evaluations / ".lock", wait=self.waits) as mine:
            if not mine:
                raise InProgressError("in progress in another process; deferred")
            subject.folder.remove_leftovers()
            done = self.ledger.is_finished(subject)
            summary = "finished by another process" if done else self._evaluate(subject)
        advance(1)
        return summary

    def recipe(self) -> "Callable[[], Evaluator]":
        """Return a function that can be pickled and makes such an evaluator in another process."""
        return partial(_reopen, self.task.dataset, self.task.settings, self.encoding, self.task.collection.hash)

    def _evaluate(self, subject: Subject) -> str:
        started = time.perf_counter()
        if subject.kind == "bm25":
            parts = [self.write(subject, self.task.search_bm25(self.progress), None)]
        else:
            with self.encoder.embedded(subject) as embeddings:
                parts = []
                if not self.ledger.has_run(subject):
                    answer = self.task.search(subject.name, *embeddings, self.progress)
                    wanted = self.task.settings.linearise and subject.has_stand_in
                    linearised = linear_stand_in(subject, self.task, self.encoder, self.progress) if wanted else None
                    parts.append(self.write(subject, answer, Encoded.of(*embeddings), linearised))
                parts += [self._write_form(subject, form, *embeddings) for form in self.ledger.missing_forms(subject)]
                if missing := self.ledger.missing_diagnostics(subject):
                    record = EvaluationRecord.read(subject.folder.eval_json(self.task.dataset.name))
                    given = Given(subject, self.task, self.encoder, self.encoding, *embeddings, record, self.progress)
                    parts.append(self.ledger.explainer.write(given, missing))
        return f"{'; '.join(parts)}, {human_time(time.perf_counter() - started)}"

    def write(
        self,
        subject: Subject,
        answer: Answer,
        encoded: Encoded | None,
        linearised: StandIn | None = None,
        *,
        streamed: bool = False,
    ) -> str:
        """Measure an answer, write the files of the evaluation and return a summary; ``streamed`` as in its key."""
        task = self.task
        run, measures = task.measure(answer)
        key = self.ledger.key(subject, streamed=streamed)
        record = evaluation_record(key, task, answer, measures, encoded, linearised)
        write_run(subject.folder.eval_run(task.dataset.name), run)
        record.write(subject.folder.eval_json(task.dataset.name))
        return ", ".join(f"{measure} {100 * value:.2f}" for measure, value in record.means.items()) + f" ({answer})"

    def _write_form(self, subject: Subject, form: Form, queries: TokenStore, documents: TokenStore) -> str:
        """Evaluate a subject in a form, add the result to its record and return a summary."""
        if isinstance(form, SearchForm):
            found = self._search(f"{subject.name} with {form.name}", form, self.task.problem(queries, documents))
            return self.write_form(subject, form, found)
        with stored_as(form, queries, documents, self.encoding.cache, scaled=subject.scales_pooled) as stored:
            rankings = None
            if stored.documents is not documents:
                what = f"{subject.name} as {form.name}"
                rankings = self.task.search(what, stored.queries, stored.documents, self.progress).rankings
            found = {form.name: Found(rankings, stored.bytes_per_vector, stored.index_bytes)}
        return self.write_form(subject, form, found)

    def _search(self, what: str, form: SearchForm, problem: Problem) -> "dict[str, Found]":
        """Search with a form; return its rankings and those of its candidates by exact scores."""
        settings = search_settings(self.task.settings)
        with self.progress.step(f"searching for {what}", 1) as advance:
            found = fast_search(problem, Setup(form, settings, self.device, self.encoding.cache, advance))
            shown = [Ranking(one.documents[: problem.depth], one.scores[: problem.depth]) for one in found.rankings]
            entries = {form.entries[0]: Found(shown, found.bytes_per_vector, found.index_bytes)}
            for name in form.entries[1:]:
                size = found.index_bytes + 2 * problem.documents.vectors.size
                entries[name] = Found(rescored(problem, found.rankings), found.bytes_per_vector, size)
        return entries

    def write_form(self, subject: Subject, form: Form, found: "Mapping[str, Found]", sample: int | None = None) -> str:
        """Measure what was found with a form, add it to a subject's record and return a summary.

        Args:
            subject: The subject.
            form: The form.
            found: What was found, by the name of the entry.
            sample: Documents that the form was fitted on; None for all.
        """
        name = self.task.dataset.name
        path = subject.folder.eval_json(name)
        record, exact = EvaluationRecord.read(path), read_run(subject.folder.eval_run(name))
        entries: dict[str, StorageEntry] = {}
        for entry, one in found.items():
            run, measures = (exact, record.measures)
            if one.rankings is not None:
                run, measures = self.task.measure_rankings(one.rankings)
            entries[entry] = storage_entry(
                record,
                form,
                self.task.settings,
                measures,
                bytes_per_vector=one.bytes_per_vector,
                index_bytes=one.index_bytes,
                recall=recall_of(record, exact, run),
                sample=sample,
            )
        with_storage(record, entries, self.ledger.forms).write(path)
        return ", ".join(
            f"{name} {measure} {100 * entry.measures[measure]:.2f}"
            for name, entry in entries.items()
            for measure in list(entry.measures)[:1]
        )


@dataclass(frozen=True)
class Found:
    """What a search in a form found.

    Attributes:
        rankings: One ranking per query; None if what is searched is what the evaluation itself searched.
        bytes_per_vector: Bytes of a document's token vector.
        index_bytes: Bytes of all documents' vectors, and of what is needed to read or search them.
    """

    rankings: Sequence[Ranking] | None
    bytes_per_vector: int
    index_bytes: int


def make_evaluator(
    dataset: EvalDatasetRef,
    collection: Collection,
    settings: EvalConfig,
    encoding: Encoding,
    progress: Progress,
) -> Evaluator:
    """Make the evaluator of a data set that has been opened."""
    task = SearchTask(dataset, collection, settings, encoding.device)
    encoder = SubjectEncoder(task.queries, task.documents, encoding, progress)
    return Evaluator(task, Ledger(task, encoding.precision), encoder, encoding, progress)


def _reopen(dataset: EvalDatasetRef, settings: EvalConfig, encoding: Encoding, collection_hash: str) -> Evaluator:
    """Make an evaluator in another process, from the same files.

    Raises:
        ProjheadsError: If the data set differs on this machine.
    """
    collection = open_collection(dataset.source, split=dataset.split, cache=encoding.cache)
    if collection.hash != collection_hash:
        raise ProjheadsError(f"{dataset.source}: differs on {platform.node()} from the machine that runs the command")
    encoding = replace(encoding, device=pick_device(encoding.device.type))
    evaluator = make_evaluator(dataset, collection, settings, encoding, Progress(quiet=True))
    return replace(evaluator, waits=True)
