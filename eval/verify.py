"""Whether everything that an evaluation left on disk is still what was written."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import isclose
from pathlib import Path

from eval.measures import measure_run
from eval.runs import read_run
from experiment.collections import Collection, open_collection
from experiment.config import ExperimentConfig, GivenModelsConfig
from experiment.console.progress import Progress
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.models import check_intact, is_intact
from experiment.disk.records import EvaluationRecord, ReferenceRecord, TrialRecord
from experiment.encoding.store import verify_store
from projheads.errors import ProjheadsError
from projheads.hosts.backbone import resolve_backbone

__all__ = ["verify_experiment", "verify_given_models"]


def verify_experiment(config: ExperimentConfig, progress: Progress) -> None:
    """Check every saved model, every store of the cache and every evaluation; nothing is changed.

    Models are compared with the hash of when they were saved, stores with their checksums, and the measures of each
    evaluation with those of its run file.

    Raises:
        ProjheadsError: If something is damaged; each fault is reported first, with its remedy.
    """
    folder = ExperimentFolder(config.output)
    if not folder.experiment_yaml.exists():
        raise ProjheadsError(f"{config.output}: not an experiment's folder")
    _run(config, [*_model_checks(folder), *_store_checks(config.cache), *_evaluation_checks(config, folder)], progress)


def verify_given_models(config: GivenModelsConfig, progress: Progress) -> None:
    """Check given models, every store of the cache and every evaluation of the models; nothing is changed.

    Raises:
        ProjheadsError: If something is damaged, or a model is not the one that was evaluated.
    """
    folder = ExperimentFolder(config.output)
    models = [partial(_check_given, config, files) for files in folder.trials()]
    _run(config, [*models, *_store_checks(config.cache), *_evaluation_checks(config, folder)], progress)


def _check_given(config: GivenModelsConfig, files: TrialFolder) -> None:
    record = TrialRecord.read(files.trial_json)
    if record.checkpoint not in config.models:
        return  # Of an earlier command.
    model = resolve_backbone(*config.opened(record.checkpoint))
    if record.weights_hash is not None and not is_intact(model, record.weights_hash):
        raise ProjheadsError(
            f"{model}: damaged, or changed since it was evaluated; restore it, or run python -m eval --model again"
        )


def _run(
    config: ExperimentConfig | GivenModelsConfig, checks: Sequence[Callable[[], None]], progress: Progress
) -> None:
    faults = 0
    with progress.step("verifying", len(checks)) as advance:
        for check in checks:
            try:
                check()
            except ProjheadsError as error:
                progress.say(str(error))
                faults += 1
            advance(1)
    if faults:
        raise ProjheadsError(f"{config.output}: {faults} of {len(checks)} models, stores and evaluations are damaged")
    progress.say(f"{config.output}: all {len(checks)} models, stores and evaluations are intact")


def _model_checks(folder: ExperimentFolder) -> Iterator[Callable[[], None]]:
    for trial in folder.trials():
        yield partial(_check_model, trial, lambda files: TrialRecord.read(files.trial_json), folder)
    for reference in folder.references():
        yield partial(_check_model, reference, lambda files: ReferenceRecord.read(files.reference_json), folder)


def _check_model(
    files: TrialFolder, read: Callable[[TrialFolder], TrialRecord | ReferenceRecord], folder: ExperimentFolder
) -> None:
    saved = read(files).weights_hash
    if saved is not None:
        check_intact(files.model, saved, folder.experiment_yaml)


def _store_checks(cache: Path) -> Iterator[Callable[[], None]]:
    for state in sorted(cache.rglob("store.json")):
        yield partial(verify_store, state.parent)


def _evaluation_checks(
    config: ExperimentConfig | GivenModelsConfig, folder: ExperimentFolder
) -> Iterator[Callable[[], None]]:
    for dataset in config.eval.datasets:
        collection = open_collection(dataset.source, split=dataset.split, cache=config.cache)
        for files in (*folder.trials(), *folder.references()):
            if files.eval_json(dataset.name).exists():
                yield partial(
                    _check_evaluation, files.eval_json(dataset.name), files.eval_run(dataset.name), collection
                )


def _check_evaluation(path: Path, run: Path, collection: Collection) -> None:
    record = EvaluationRecord.read(path)
    if record.dataset.hash != collection.hash:
        return  # Of an earlier state of the data set: the next evaluation replaces it.
    measured = measure_run(list(record.measures), collection.qrels, read_run(run))
    for name, scores in record.measures.items():
        for query, score in scores.items():
            if not isclose(score, measured[name].get(query, -1.0), abs_tol=1e-9):
                raise ProjheadsError(
                    f'{run}: damaged ({name} of query "{query}" is {score} in {path.name} and not in the run); delete '
                    "both files and run python -m eval again"
                )
