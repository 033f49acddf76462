"""Evaluation of trials, reference rows and given models on every data set, each written once."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from eval.embed import Encoding
from eval.estimate import describe_ways, estimate_groups
from eval.evaluation_record import regroup
from eval.evaluator import Evaluator, InProgressError, make_evaluator
from eval.explain import import_diagnostics
from eval.explain.query_facts import write_query_facts
from eval.runs import write_qrels
from eval.search.choice import check_search, search_settings
from eval.search.compressed import check_forms
from eval.search.fast import check_searches
from eval.streaming.streamed import evaluate_streamed
from eval.streaming.way import check_way
from eval.subjects import Subject, list_references, list_shared, list_trials
from eval.texts import write_texts
from experiment.claim import check_folder, store_config
from experiment.collections import open_collection, suite_notes
from experiment.config import EvalConfig, ExperimentConfig
from experiment.console.progress import Progress, human_time
from experiment.disk.files import remove_leftovers
from experiment.disk.layout import ExperimentFolder
from experiment.disk.resume_points import remove_resume_points
from experiment.encoding.device import pick_device, resolve_precision
from experiment.executors.local import LocalExecutor
from experiment.executors.protocol import Executor
from projheads.errors import ProjheadsError

__all__ = ["encoding_of", "evaluate_experiment", "evaluate_subjects"]


def evaluate_experiment(config: ExperimentConfig, progress: Progress, executor: Executor | None = None) -> None:
    """Evaluate the finished trials and the reference rows on every data set; skip what is already evaluated.

    Once all evaluations are finished, experiment.yaml is updated; if one fails, it stays as it was.

    Args:
        config: The experiment.
        progress: Where progress is reported.
        executor: Where models are evaluated; None for this process.

    Raises:
        ProjheadsError: If nothing is trained, the folder contains a different experiment, a data set or index cannot be
            used, or an evaluation failed; the others are finished before that is raised.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    for _, derived in config.points():
        check_search(search_settings(config.eval), derived.heads.out_features)
        check_forms(config.eval.storage, derived.heads.out_features)
        check_searches(config.eval.searches, derived.heads.out_features)
    check_way(config.eval)
    encoding = encoding_of(config, device)
    folder = check_folder(config, progress.say)
    remove_resume_points(folder)
    trials = list_trials(config, progress.say)
    if not trials:
        raise ProjheadsError(f"{config.output}: has no finished trial; run python -m train on this experiment first")
    subjects = [*trials, *list_shared(config), *list_references(config, trials, progress.say)]
    evaluate_subjects(subjects, config.eval, encoding, folder, progress, executor)
    store_config(config, folder.experiment_yaml)


def encoding_of(config: ExperimentConfig, device: torch.device) -> Encoding:
    """Return how an experiment encodes texts for its evaluation."""
    return Encoding(
        device=device,
        precision=resolve_precision(config.eval.precision, device),
        batch_tokens=config.eval.batch_tokens,
        cache=config.cache,
        dtype=config.eval.vector_dtype,
    )


def evaluate_subjects(
    subjects: Sequence[Subject],
    settings: EvalConfig,
    encoding: Encoding,
    folder: ExperimentFolder,
    progress: Progress,
    executor: Executor | None = None,
) -> None:
    """Evaluate subjects on every data set; skip what is already evaluated.

    Several processes may do so at once: each defers what another one is evaluating until nothing else is left.

    Args:
        subjects: What to evaluate.
        settings: On which data sets, and how.
        encoding: How texts are encoded.
        folder: Where the texts for the report go.
        progress: Where progress is reported.
        executor: Where models are evaluated; None for this process.

    Raises:
        ProjheadsError: If a data set or index cannot be used, or an evaluation failed; the others are finished first.
    """
    folder.remove_leftovers()
    remove_leftovers(encoding.cache, recursive=False)
    if settings.explain is not None:
        import_diagnostics(settings.explain.files)
    for note in suite_notes(ref.source for ref in settings.datasets):
        progress.say(note)
    failed = []
    for ref in settings.datasets:
        progress.say(f"{ref.name}: opening the collection; an estimate of the time follows")
        collection = open_collection(ref.source, split=ref.split, cache=encoding.cache)
        evaluator = make_evaluator(ref, collection, settings, encoding, progress)
        write_qrels(folder.qrels(ref.name), collection.qrels)
        if collection.notes.get("ids_with_spaces"):
            progress.say(
                f"{ref.name}: white space in ids is percent-encoded in run files; other scorers need "
                f"{folder.qrels(ref.name)}, which spells ids the same way"
            )
        failed += _evaluate_dataset(evaluator, subjects, executor or LocalExecutor())
        write_texts(folder.texts_json(ref.name), ref.name, collection, subjects)
        if settings.explain is not None and not failed:
            write_query_facts(folder, evaluator.task, evaluator.encoder, subjects)
    if failed:
        raise ProjheadsError(f"failed evaluations: {', '.join(failed)}; the others are finished")


def _evaluate_dataset(evaluator: Evaluator, subjects: Sequence[Subject], executor: Executor) -> list[str]:
    """Evaluate the pending subjects on one data set; return the names of those that failed."""
    task, say = evaluator.task, evaluator.progress.say
    name = task.dataset.name
    pending = evaluator.ledger.pending(subjects)
    if task.too_large_for_bm25 and any(subject.kind == "bm25" for subject in pending):
        say(f"{name}: {task.too_large_for_bm25}")
        pending = [subject for subject in pending if subject.kind != "bm25"]
    for subject in subjects:
        regroup(subject, task.dataset)
    evaluator.encoder.remove_embeddings(subject for subject in subjects if subject not in pending)
    odd = "".join(f", {count} {what.replace('_', ' ')}" for what, count in task.notes.items())
    say(f"{name}: {len(task.documents)} documents, {len(task.queries)} judged queries{odd}")
    finished = len(subjects) - len(pending)
    if not pending:
        say(f"{name}: all {finished} evaluations are finished; nothing to do")
        return []
    groups = estimate_groups(evaluator, pending)
    duration = human_time(sum(group.seconds for group in groups))
    say(f"{name}: {len(pending)} to evaluate, {finished} finished; about {duration}")
    for line in describe_ways(groups):
        say(f"{name}: {line}")
    failed: list[str] = []
    streamed = {subject for group in groups if group.way.streamed for subject in group.subjects}
    for group in groups:
        if group.way.streamed:
            failed += evaluate_streamed(evaluator, group.subjects, executor)
    pending = [subject for subject in pending if subject not in streamed]
    # Token states of a frozen backbone come first, before several processes ask for them at once.
    for subject in pending:
        with suppress(ProjheadsError):  # A model that cannot be opened is reported when its turn comes.
            evaluator.encoder.share_states(subject)
    return failed + _evaluate_pending(evaluator, pending, executor)


def _evaluate_pending(evaluator: Evaluator, pending: Sequence[Subject], executor: Executor) -> list[str]:
    """Evaluate subjects, those that another process is evaluating last; return the names of those that failed."""
    name, progress = evaluator.task.dataset.name, evaluator.progress
    failed: list[str] = []
    done = 0
    with progress.step(f"evaluations on {name}", len(pending)) as advance:
        queue = pending
        for waits in (False, True):
            deferred = []
            for subject, outcome in executor.map(replace(evaluator, waits=waits), queue, progress, advance):
                if isinstance(outcome, InProgressError):
                    deferred.append(subject)
                    progress.say(f"{name} {subject.name}: {outcome}")
                    continue
                if isinstance(outcome, ProjheadsError):
                    failed.append(f"{subject.name} on {name}")
                    outcome = f"FAILED: {outcome}"
                done += 1
                progress.say(f"{name} [{done}/{len(pending)}] {subject.name}: {outcome}")
            queue = deferred
    return failed
