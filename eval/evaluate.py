"""Evaluation of trials, reference rows and checkpoints on every data set, each written once."""

import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import torch

from eval.embed import Embedder, Encoding
from eval.evaluation_record import (
    evaluation_key,
    evaluation_record,
    is_finished,
    missing_forms,
    regroup,
    storage_entry,
    with_storage,
)
from eval.measures import mean_of, measure_run
from eval.model_files import BackboneIdentities, read_head
from eval.runs import Run, encode_id, make_run, write_run
from eval.search.choice import Answer, check_search, search, search_settings
from eval.search.compressed import check_forms, stored_as
from eval.search.lexical import bm25_rankings
from eval.search.ranking import Problem, own_documents, priorities
from eval.search.stand_in import stand_in_states
from eval.subjects import Subject, list_references, list_trials
from eval.texts import write_texts
from experiment.claim import refuse_another
from experiment.collections import Collection, open_collection, suite_notes
from experiment.config import EvalConfig, EvalDatasetRef, ExperimentConfig
from experiment.config.load import dump_config, read_resolved
from experiment.config.storage_forms import StorageForm, parse_storage
from experiment.console.progress import Advance, Progress, human_time
from experiment.disk.files import write_text
from experiment.disk.layout import ExperimentFolder
from experiment.disk.lock import try_locked
from experiment.disk.records import EvaluationRecord, IndexFacts, StandIn, StandInStates
from experiment.encoding.device import pick_device, resolve_precision
from experiment.encoding.speed import seconds_of_products
from experiment.encoding.store import TokenStore
from experiment.executors.local import LocalExecutor
from experiment.executors.protocol import Executor
from projheads import linearise
from projheads.errors import ProjheadsError

__all__ = ["evaluate_experiment", "evaluate_subjects"]

SECONDS_PER_RANKING = 0.006
"""For the estimate: scoring a query's best documents again and ordering them, on one CPU core."""


def evaluate_experiment(config: ExperimentConfig, progress: Progress, executor: Executor | None = None) -> None:
    """Evaluate what is not evaluated yet: finished trials and reference rows, on every data set.

    Args:
        config: The experiment.
        progress: Where to tell what is done.
        executor: Where models are evaluated; None for this process.

    Raises:
        ProjheadsError: If nothing is trained, the folder holds another experiment, a data set or index cannot be used,
            or an evaluation failed; the others are done before that is raised.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    check_search(search_settings(config.eval), config.heads.out_features)
    check_forms(config.eval.storage, config.heads.out_features)
    encoding = Encoding(
        device=device,
        precision=resolve_precision(config.eval.precision, device),
        batch_tokens=config.eval.batch_tokens,
        cache=config.cache,
        trust_remote_code=config.model.trust_remote_code,
    )
    folder = _open_folder(config)
    trials = list_trials(config, progress.say)
    if not trials:
        raise ProjheadsError(f"{config.output}: holds no finished trial; run python -m train on this experiment first")
    identities = BackboneIdentities()
    subjects = [*trials, *list_references(config, trials, identities, progress.say)]
    evaluate_subjects(subjects, config.eval, encoding, folder, identities, progress, executor)


def evaluate_subjects(
    subjects: Sequence[Subject],
    settings: EvalConfig,
    encoding: Encoding,
    folder: ExperimentFolder,
    identities: BackboneIdentities,
    progress: Progress,
    executor: Executor | None = None,
) -> None:
    """Evaluate on every data set those subjects that are not evaluated yet.

    Two processes may do it at once: what one is at is passed over by the other until nothing else is left to do.

    Args:
        subjects: What is evaluated.
        settings: On which data sets, and how.
        encoding: How texts are encoded.
        folder: Where the texts for the report lie.
        identities: Remembers what it has hashed.
        progress: Told what is done.
        executor: Where models are evaluated; None for this process.

    Raises:
        ProjheadsError: If a data set or index cannot be used, or an evaluation failed; the others are done before that.
    """
    for note in suite_notes(ref.source for ref in settings.datasets):
        progress.say(note)
    failed = []
    for ref in settings.datasets:
        collection = open_collection(ref.source, split=ref.split, cache=encoding.cache)
        task = _Task(settings, ref, collection, encoding, identities, progress)
        failed += task.evaluate(subjects, executor or LocalExecutor())
        write_texts(folder.texts_json(ref.name), ref.name, collection, subjects)
    if failed:
        raise ProjheadsError(f"evaluations that failed: {', '.join(failed)}; the others are done")


def _open_folder(config: ExperimentConfig) -> ExperimentFolder:
    """Check that the folder holds this experiment, and bring its experiment.yaml up to date.

    Raises:
        ProjheadsError: If it holds no experiment, or one that was trained otherwise.
    """
    there = read_resolved(config.output, config.heads.files)
    refuse_another(config, there)
    folder = ExperimentFolder(config.output)
    if folder.experiment_yaml.read_text(encoding="utf-8") != dump_config(config):
        write_text(folder.experiment_yaml, dump_config(config))
    return folder


class _TakenError(ProjheadsError):
    """Another process is evaluating this."""


class _Task:
    """One data set, and how it is evaluated."""

    def __init__(
        self,
        settings: EvalConfig,
        ref: EvalDatasetRef,
        collection: Collection,
        encoding: Encoding,
        identities: BackboneIdentities,
        progress: Progress,
        *,
        waits: bool = False,
    ) -> None:
        self._settings = settings
        self._waits = waits
        self._ref = ref
        self._collection = collection
        self._encoding = encoding
        self._progress = progress
        self._forms = [parse_storage(name) for name in settings.storage]
        self._query_ids, self._document_ids = list(collection.qrels), list(collection.corpus)
        self._queries = [collection.queries[name] for name in self._query_ids]
        self._documents = [document.passage for document in collection.corpus.values()]
        self._embedder = Embedder(self._queries, self._documents, self._encoding, identities, progress)
        # Documents of equal score stand in the order of their ids as the run file has them.
        self._priority = priorities([encode_id(name) for name in self._document_ids])
        self._own = own_documents(self._query_ids, self._document_ids)

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self._encoding.device

    def __call__(self, subject: Subject, /, progress: Progress, advance: Advance) -> str:
        """Evaluate one subject and write its files; return what to tell of it."""
        key = self._key(subject)
        with try_locked(subject.folder.evaluations, wait=self._waits) as mine:
            if not mine:
                raise _TakenError("another process is at it, so it comes last")
            subject.folder.remove_leftovers()
            if self._is_finished(subject):
                told = "another process has done it meanwhile"
            else:
                told = self._evaluate(subject, key)
        advance(1)
        return told

    def recipe(self) -> "Callable[[], _Task]":
        """Return a function that can be pickled and makes such a task in another process."""
        return partial(_open_task, self._settings, self._ref, self._encoding, self._collection.hash)

    def evaluate(self, subjects: Sequence[Subject], executor: Executor) -> list[str]:
        """Evaluate the subjects that are not evaluated yet; return the names of those that failed."""
        name, say = self._ref.name, self._progress.say
        pending = [subject for subject in subjects if not self._is_finished(subject)]
        for subject in subjects:
            regroup(subject, self._ref)
        odd = "".join(f", {count} {what.replace('_', ' ')}" for what, count in self._collection.notes.items())
        say(f"{name}: {len(self._documents)} documents, {len(self._queries)} judged queries{odd}")
        finished = len(subjects) - len(pending)
        if not pending:
            say(f"{name}: all {finished} evaluations are finished already, nothing to do")
            return []
        duration = human_time(self._estimate(pending))
        say(f"{name}: evaluations to do: {len(pending)}, finished already: {finished}; about {duration}")
        self._share_states(pending)
        failed, queue, done = [], pending, 0
        with self._progress.step(f"evaluations on {name}", len(pending)) as advance:
            for self._waits in (False, True):
                taken = []
                for subject, outcome in executor.map(self, queue, self._progress, advance):
                    if isinstance(outcome, _TakenError):
                        taken.append(subject)
                        say(f"{name} {subject.name}: {outcome}")
                        continue
                    if isinstance(outcome, ProjheadsError):
                        failed.append(f"{subject.name} on {name}")
                        outcome = f"FAILED: {outcome}"
                    done += 1
                    say(f"{name} [{done}/{len(pending)}] {subject.name}: {outcome}")
                queue = taken
        return failed

    def _is_finished(self, subject: Subject) -> bool:
        return is_finished(subject, self._ref.name, self._key(subject)) and not self._missing(subject)

    def _missing(self, subject: Subject) -> list[StorageForm]:
        """Return the forms of storage in which a subject is not evaluated yet."""
        if subject.kind != "model":
            return []
        return missing_forms(EvaluationRecord.read(subject.folder.eval_json(self._ref.name)), self._forms)

    def _key(self, subject: Subject) -> str:
        return evaluation_key(subject, self._collection, self._settings, self._encoding.precision)

    def _share_states(self, subjects: Sequence[Subject]) -> None:
        """Have the token states of frozen backbones in the cache, before processes ask for them at the same time."""
        for subject in subjects:
            # A model that cannot be opened is told of when it is evaluated.
            with suppress(ProjheadsError):
                self._embedder.share_states(subject)

    def _evaluate(self, subject: Subject, key: str) -> str:
        """Evaluate one subject and write its files; return what to tell of it."""
        started = time.perf_counter()
        if subject.kind == "bm25":
            told = self._write(subject, key, self._bm25(), None)
        else:
            with self._embedder.embedded(subject) as embeddings:
                told = ""
                if not is_finished(subject, self._ref.name, key):
                    told = self._write(subject, key, self._search(subject.name, *embeddings), embeddings)
                told += "".join(self._evaluate_stored(subject, form, *embeddings) for form in self._missing(subject))
        return f"{told.removeprefix('; ')}, {human_time(time.perf_counter() - started)}"

    def _search(self, name: str, queries: TokenStore, documents: TokenStore) -> Answer:
        problem = Problem(queries, documents, self._settings.depth, self._priority, self._own)
        with self._progress.step(f"searching for {name}", 1) as advance:
            return search(problem, search_settings(self._settings), self._encoding.device, advance)

    def _write(
        self, subject: Subject, key: str, answer: Answer, embeddings: tuple[TokenStore, TokenStore] | None
    ) -> str:
        """Measure an answer and write the files of its evaluation; return what to tell of it."""
        run, measures = self._measured(answer)
        wanted = self._settings.linearise and subject.has_stand_in
        linearised = self._linearised(subject) if wanted else None
        record = evaluation_record(key, self._ref, self._collection, answer, measures, embeddings, linearised)
        write_run(subject.folder.eval_run(self._ref.name), run)
        record.write(subject.folder.eval_json(self._ref.name))
        return ", ".join(f"{measure} {value:.4f}" for measure, value in record.means.items()) + f" ({answer})"

    def _evaluate_stored(self, subject: Subject, form: StorageForm, queries: TokenStore, documents: TokenStore) -> str:
        """Evaluate a subject in a form of storage and add it to the file; return what to tell of it."""
        path = subject.folder.eval_json(self._ref.name)
        record = EvaluationRecord.read(path)
        with stored_as(form, queries, documents, self._encoding.cache) as stored:
            if stored.documents is documents:  # As they are already: nothing is searched again.
                measures = record.measures
            else:
                answer = self._search(f"{subject.name} as {form.name}", stored.queries, stored.documents)
                measures = self._measured(answer)[1]
            entry = storage_entry(record, form, measures, stored.bytes_per_vector, stored.index_bytes)
        with_storage(record, {form.name: entry}, self._forms).write(path)
        measure, value = next(iter(entry.measures.items()))
        return f"; {form.name} {measure} {value:.4f}"

    def _measured(self, answer: Answer) -> tuple[Run, dict[str, dict[str, float]]]:
        run = make_run(answer.rankings, self._query_ids, self._document_ids)
        return run, measure_run(self._settings.measures, self._collection.qrels, run)

    def _linearised(self, subject: Subject) -> StandIn:
        """Fit the linear stand-in of a subject's head, search with it, and describe both."""
        judged = {document for grades in self._collection.qrels.values() for document in grades}
        states, fitted_on = stand_in_states(*self._embedder.token_states(subject), self._document_ids, judged)
        fit = linearise(read_head(subject.model), states)
        with self._embedder.projected(subject, fit.linear) as embeddings:
            answer = self._search(f"the linear stand-in of {subject.name}", *embeddings)
        measures = self._measured(answer)[1]
        return StandIn(
            r2=fit.r2,
            mean_cosine=fit.mean_cosine,
            fitted_on=fitted_on,
            states=StandInStates(fitted=fit.fitted, held_out=fit.held_out),
            measures=measures,
            means={name: mean_of(values) for name, values in measures.items()},
        )

    def _bm25(self) -> Answer:
        started = time.perf_counter()
        with self._progress.step("searching by BM25", 1) as advance:
            rankings = bm25_rankings(
                self._queries,
                self._documents,
                depth=self._settings.depth,
                priority=self._priority,
                own=self._own,
                progress=advance,
            )
        return Answer(
            rankings, IndexFacts(kind="bm25", depth=self._settings.depth), 0.0, time.perf_counter() - started, 0
        )

    def _estimate(self, pending: Sequence[Subject]) -> float:
        """Guess how long the pending evaluations take, in seconds; BM25 counts as nothing."""
        models = [subject for subject in pending if subject.kind != "bm25"]
        if not models:
            return 0.0
        seconds, products, searches = 0.0, 0.0, 1 + len(self._forms)
        for family in dict.fromkeys(subject.family for subject in models):
            members = [subject for subject in models if subject.family == family]
            encode, queries, documents = self._embedder.estimate(members[0])
            seconds += encode * (1 if members[0].frozen else len(members))
            products += sum(
                searches * queries * documents * subject.out_features + (queries + documents) * subject.multiply_adds
                for subject in members
            )
            if self._settings.linearise:
                products += queries * documents * sum(member.out_features for member in members if member.has_stand_in)
        searches *= len(models)
        searches += sum(subject.has_stand_in for subject in models if self._settings.linearise)
        ranking = SECONDS_PER_RANKING * searches * len(self._queries) / torch.get_num_threads()
        return seconds + ranking + seconds_of_products(products, self._encoding.device)


def _open_task(settings: EvalConfig, ref: EvalDatasetRef, encoding: Encoding, collection_hash: str) -> _Task:
    """Make a task in another process, from the same files.

    Raises:
        ProjheadsError: If this machine has another data set by that name.
    """
    collection = open_collection(ref.source, split=ref.split, cache=encoding.cache)
    if collection.hash != collection_hash:
        raise ProjheadsError(f"{ref.source}: has other bytes on {platform.node()} than on the machine of the command")
    encoding = replace(encoding, device=pick_device(encoding.device.type))
    return _Task(settings, ref, collection, encoding, BackboneIdentities(), Progress(quiet=True), waits=True)
