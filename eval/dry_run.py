"""What an evaluation would do, without doing it: nothing is written and no network is used."""

from typing import Any

from eval.estimate import describe_ways, describe_work, estimate_groups
from eval.evaluate import encoding_of
from eval.evaluator import make_evaluator
from eval.planned import list_planned
from eval.search.choice import check_search, search_settings
from eval.search.compressed import check_forms
from eval.search.fast import check_searches
from eval.streaming.way import check_way
from eval.subjects import list_shared, list_trials
from experiment.collections import check_source, open_collection, suite_notes
from experiment.config import EvalDatasetRef, ExperimentConfig
from experiment.console.progress import Progress
from experiment.disk.layout import check_can_be_folder
from experiment.encoding.device import pick_device
from experiment.rounds import planned_trials
from projheads.hosts.backbone import is_on_this_machine

__all__ = ["print_dry_run", "print_sizes_of"]

MISSING_DATA = "disk, memory and time are known once the data is on this disk"


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
        sizes = [MISSING_DATA] if warning else _size_lines(config, dataset)
        for line in sizes:
            print(f"{dataset.name}: {line}")
        datasets[dataset.name] = {"evaluated": evaluated, "warning": warning, "sizes": sizes}
    return {"output": str(config.output), "trials": len(trials), "finished": len(finished), "datasets": datasets}


def print_sizes_of(config: ExperimentConfig) -> dict[str, list[str]]:
    """Print, and return for each data set, what evaluating all trials of an experiment takes.

    Raises:
        ProjheadsError: If a data set or the backbone cannot be used.
    """
    sizes = {dataset.name: _size_lines(config, dataset, everything=True) for dataset in config.eval.datasets}
    for name, lines in sizes.items():
        print("\n".join(["", f"To evaluate all trials on {name}:", *(f"    {line}" for line in lines)]))
    return sizes


def _size_lines(config: ExperimentConfig, dataset: EvalDatasetRef, *, everything: bool = False) -> list[str]:
    """Return lines about the disk, memory and time that an experiment's evaluations on a data set take, both ways.

    Trials that are not trained yet count too. Nothing is written or downloaded.

    Args:
        config: The experiment.
        dataset: One of its data sets.
        everything: Whether to count evaluations that are finished.

    Raises:
        ProjheadsError: If the data set or the backbone cannot be used.
    """
    if check_source(dataset.source, cache=config.cache):
        return [MISSING_DATA]
    quiet, device = Progress(quiet=True), pick_device(config.device)
    trained = [*list_trials(config, quiet.say), *list_shared(config)]
    if not trained and not is_on_this_machine(config.model.backbone, config.model.settings()):
        return [f"disk, memory and time are known once {config.model.backbone} is on this machine"]
    collection = open_collection(dataset.source, split=dataset.split, cache=config.cache)
    evaluator = make_evaluator(dataset, collection, config.eval, encoding_of(config, device), quiet)
    counted = trained if everything else evaluator.ledger.pending(trained)
    planned = list_planned(config, trained, None if everything else dataset.name)
    groups = estimate_groups(evaluator, counted, planned)
    return [*describe_ways(groups), describe_work(groups)] if groups else ["all evaluations are finished"]
