"""What an evaluation would do, without doing it: nothing is written and no network is used."""

from typing import Any

from eval.estimate import describe_ways, describe_work, estimate_groups
from eval.evaluate import encoding_of
from eval.evaluator import make_evaluator
from eval.search.choice import check_search, search_settings
from eval.search.compressed import check_forms
from eval.search.fast import check_searches
from eval.streaming.way import check_way
from eval.subjects import list_trials
from experiment.collections import check_source, open_collection, suite_notes
from experiment.config import EvalDatasetRef, ExperimentConfig
from experiment.console.progress import Progress
from experiment.disk.layout import check_can_be_folder
from experiment.encoding.device import pick_device
from experiment.rounds import planned_trials

__all__ = ["print_dry_run"]


def print_dry_run(config: ExperimentConfig) -> dict[str, Any]:
    """Print which trials would be evaluated on which datasets.

    Returns:
        The same as a JSON value.

    Raises:
        ProjheadsError: If the index or a dataset cannot be used.
    """
    settings = config.eval
    for path in (config.output, config.cache):
        check_can_be_folder(path)
    for _, derived in config.points():
        check_search(search_settings(settings), derived.heads.out_features)
        check_forms(settings.storage, derived.heads.out_features)
        check_searches(settings.searches, derived.heads.out_features)
    check_way(settings)
    trials = [(file, file.read_trial()) for file in planned_trials(config)]
    finished = [file for file, trial in trials if trial and trial.status == "finished"]
    failed = sum(trial is not None for _, trial in trials) - len(finished)
    print(
        f"{config.output}: {len(trials)} trials, {len(finished)} finished, {failed} failed, "
        f"{len(trials) - len(finished) - failed} not trained yet"
    )
    print(f"references: {', '.join(settings.references) or 'none'}; measures: {', '.join(settings.measures)}")
    print(f"index: {settings.index}; depth: {settings.depth}; storage: {', '.join(settings.storage) or 'fp16'}")
    if settings.searches:
        print(f"further searches: {'; '.join(settings.searches)}")
    for note in suite_notes(dataset.source for dataset in settings.datasets):
        print(note)
    datasets = {}
    for dataset in settings.datasets:
        evaluated = sum(file.eval_json(dataset.name).exists() for file in finished)
        print(f"{dataset.name}: {evaluated} of {len(finished)} finished trials have an evaluation")
        warning = check_source(dataset.source, cache=config.cache)
        if warning:
            print(f"warning: {warning}")
        sizes = [] if warning or not finished else _sizes(config, dataset)
        for line in sizes or ["disk, memory and time are known once a trial is trained and the data is on this disk"]:
            print(f"{dataset.name}: {line}")
        datasets[dataset.name] = {"evaluated": evaluated, "warning": warning, "sizes": sizes}
    return {"output": str(config.output), "trials": len(trials), "finished": len(finished), "datasets": datasets}


def _sizes(config: ExperimentConfig, dataset: EvalDatasetRef) -> list[str]:
    """Return lines about the disk, memory and time that evaluating all finished trials on a data set takes."""
    collection = open_collection(dataset.source, split=dataset.split, cache=config.cache)
    quiet, device = Progress(quiet=True), pick_device(config.device)
    evaluator = make_evaluator(dataset, collection, config.eval, encoding_of(config, device), quiet)
    groups = estimate_groups(evaluator, list_trials(config, quiet.say))
    return [*describe_ways(groups), describe_work(groups)] if groups else []
