"""An experiment's evaluation: every trial and reference row on every data set, each written once."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from eval.bm25 import bm25_rankings
from eval.embed import Embedder, Encoding
from eval.measures import mean_of, measure_run
from eval.model_files import BackboneIdentities, read_head
from eval.ranking import Problem, own_documents, priorities
from eval.record import evaluation_key, evaluation_record, is_finished
from eval.runs import encode_id, make_run, write_run
from eval.search import Answer, SearchSettings, check_search, describe, search
from eval.stand_in import stand_in_states
from eval.subjects import Subject, list_references, list_trials
from eval.texts import write_texts
from experiment.claim import refuse_another
from experiment.collections import Collection, open_collection
from experiment.config import DatasetRef, ExperimentConfig
from experiment.device import pick_device, resolve_precision
from experiment.estimate import seconds_of_products
from experiment.folder import ExperimentFolder, write_json, write_text
from experiment.load import dump_config, read_resolved
from experiment.progress import Progress, human_time
from experiment.token_store import TokenStore
from projheads import linearise
from projheads.errors import ProjheadsError

__all__ = ["evaluate_experiment"]

SECONDS_PER_RANKING = 0.006
"""For the estimate: scoring a query's best documents again and ordering them, on one CPU core."""


def evaluate_experiment(config: ExperimentConfig, progress: Progress) -> None:
    """Evaluate what is not evaluated yet: finished trials and reference rows, on every data set.

    Raises:
        ProjheadsError: If nothing is trained, the folder holds another experiment, a data set or index cannot be used,
            or an evaluation failed; the others are done before that is raised.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    searching = SearchSettings(config.eval.index, config.eval.nprobe, config.eval.candidates_per_token)
    check_search(searching, config.heads.out_features)
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
    failed = []
    for ref in config.eval.datasets:
        collection = open_collection(ref.source, split=ref.split, cache=config.cache)
        task = _Task(config, ref, collection, searching, encoding, identities, progress)
        failed += task.evaluate(subjects)
        write_texts(folder.texts_json(ref.name), ref.name, collection, subjects)
    if failed:
        raise ProjheadsError(f"evaluations that failed: {', '.join(failed)}; the others are done")


def _open_folder(config: ExperimentConfig) -> ExperimentFolder:
    """Check that the folder holds this experiment, and bring its experiment.yaml up to date.

    Raises:
        ProjheadsError: If it holds no experiment, or one that was trained otherwise.
    """
    there = read_resolved(config.output)
    refuse_another(config, there)
    folder = ExperimentFolder(config.output)
    if there != config:
        write_text(folder.experiment_yaml, dump_config(config))
    return folder


class _Task:
    """One data set of an experiment, and how it is evaluated."""

    def __init__(
        self,
        config: ExperimentConfig,
        ref: DatasetRef,
        collection: Collection,
        searching: SearchSettings,
        encoding: Encoding,
        identities: BackboneIdentities,
        progress: Progress,
    ) -> None:
        self._config = config
        self._ref = ref
        self._collection = collection
        self._searching = searching
        self._encoding = encoding
        self._progress = progress
        self._query_ids, self._document_ids = list(collection.qrels), list(collection.corpus)
        self._queries = [collection.queries[name] for name in self._query_ids]
        self._documents = [document.passage for document in collection.corpus.values()]
        self._embedder = Embedder(self._queries, self._documents, encoding, identities, progress)
        # Documents of equal score stand in the order of their ids as the run file has them.
        self._priority = priorities([encode_id(name) for name in self._document_ids])
        self._own = own_documents(self._query_ids, self._document_ids)

    def evaluate(self, subjects: Sequence[Subject]) -> list[str]:
        """Evaluate the subjects that are not evaluated yet; return the names of those that failed."""
        name, say = self._ref.name, self._progress.say
        settings, precision = self._config.eval, self._encoding.precision
        keys = {subject.folder: evaluation_key(subject, self._collection, settings, precision) for subject in subjects}
        pending = [subject for subject in subjects if not is_finished(subject, name, keys[subject.folder])]
        odd = "".join(f", {count} {what.replace('_', ' ')}" for what, count in self._collection.notes.items())
        say(f"{name}: {len(self._documents)} documents, {len(self._queries)} judged queries{odd}")
        finished = len(subjects) - len(pending)
        if not pending:
            say(f"{name}: all {finished} evaluations are finished already, nothing to do")
            return []
        duration = human_time(self._estimate(pending))
        say(f"{name}: evaluations to do: {len(pending)}, finished already: {finished}; about {duration}")
        failed = []
        for number, subject in enumerate(pending, start=1):
            where = f"{name} [{number}/{len(pending)}] {subject.name}"
            try:
                say(f"{where}: {self._evaluate(subject, keys[subject.folder])}")
            except ProjheadsError as error:
                say(f"{where}: FAILED: {error}")
                failed.append(f"{subject.name} on {name}")
        return failed

    def _evaluate(self, subject: Subject, key: str) -> str:
        """Evaluate one subject and write its files; return what to tell of it."""
        started = time.perf_counter()
        embeddings: tuple[TokenStore, TokenStore] | None = None
        if subject.kind == "bm25":
            answer = self._bm25()
        else:
            with self._embedder.embedded(subject) as embeddings:
                answer = self._search(embeddings, subject.name)
        run = make_run(answer.rankings, self._query_ids, self._document_ids)
        measures = measure_run(self._config.eval.measures, self._collection.qrels, run)
        wanted = self._config.eval.linearise and subject.has_stand_in
        linearised = self._linearised(subject) if wanted else None
        record = evaluation_record(key, self._ref, self._collection, answer, measures, embeddings, linearised)
        write_run(subject.folder.eval_run(self._ref.name), run)
        write_json(subject.folder.eval_json(self._ref.name), record)
        scores = ", ".join(f"{measure} {value:.4f}" for measure, value in record["means"].items())
        return f"{scores} ({answer}, {human_time(time.perf_counter() - started)})"

    def _search(self, embeddings: tuple[TokenStore, TokenStore], name: str) -> Answer:
        problem = Problem(*embeddings, self._config.eval.depth, self._priority, self._own)
        with self._progress.step(f"searching for {name}", 1) as advance:
            return search(problem, self._searching, self._encoding.device, advance)

    def _linearised(self, subject: Subject) -> dict[str, Any]:
        """Fit the linear stand-in of a subject's head, search with it, and describe both."""
        judged = {document for grades in self._collection.qrels.values() for document in grades}
        states, fitted_on = stand_in_states(*self._embedder.token_states(subject), self._document_ids, judged)
        fit = linearise(read_head(subject.model), states)
        with self._embedder.projected(subject, fit.linear) as embeddings:
            answer = self._search(embeddings, f"the linear stand-in of {subject.name}")
        run = make_run(answer.rankings, self._query_ids, self._document_ids)
        measures = measure_run(self._config.eval.measures, self._collection.qrels, run)
        return {
            "r2": fit.r2,
            "mean_cosine": fit.mean_cosine,
            "fitted_on": fitted_on,
            "states": {"fitted": fit.fitted, "held_out": fit.held_out},
            "measures": measures,
            "means": {name: mean_of(values) for name, values in measures.items()},
        }

    def _bm25(self) -> Answer:
        started = time.perf_counter()
        with self._progress.step("searching by BM25", 1) as advance:
            rankings = bm25_rankings(
                self._queries,
                self._documents,
                depth=self._config.eval.depth,
                priority=self._priority,
                own=self._own,
                progress=advance,
            )
        return Answer(rankings, describe("bm25", self._config.eval.depth), 0.0, time.perf_counter() - started, 0)

    def _estimate(self, pending: Sequence[Subject]) -> float:
        """Guess how long the pending evaluations take, in seconds; BM25 counts as nothing."""
        models = [subject for subject in pending if subject.kind != "bm25"]
        if not models:
            return 0.0
        encode, queries, documents = self._embedder.estimate(models[0])
        encodings = 1 if models[0].frozen else len(models)
        searches = len(models) + sum(subject.has_stand_in for subject in models if self._config.eval.linearise)
        products = searches * queries * documents * self._config.heads.out_features
        products += (queries + documents) * sum(subject.multiply_adds for subject in models)
        ranking = SECONDS_PER_RANKING * searches * len(self._queries)
        return encode * encodings + ranking + seconds_of_products(products, self._encoding.device)
