"""Two or more experiments, possibly from different machines, as one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from eval.report.load import Evaluation, Experiment, Trial, load_experiment
from projheads.errors import ProjheadsError

__all__ = ["merge_experiments"]


def merge_experiments(paths: Sequence[Path]) -> tuple[Experiment, list[str]]:
    """Read experiments and put them together, as far as their scores can be paired.

    Args:
        paths: Their folders; the first one's baseline becomes the baseline of all.

    Returns:
        One experiment, whose variants carry their experiment's name in front, and what was left out and why.

    Raises:
        ProjheadsError: If fewer than two are given, two are the same, or nothing can be paired.
    """
    experiments = [load_experiment(path) for path in paths]
    if len(experiments) < 2:
        raise ProjheadsError("a comparison needs two experiments or more; give their folders")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ProjheadsError("an experiment is given twice; give each folder once")
    measure = experiments[0].measures[0]
    refusals = [reason for other in experiments[1:] for reason in _measure_refusals(other, measure, experiments[0].name)]
    datasets = []
    for name in dict.fromkeys(name for one in experiments for name in one.datasets):
        reason = _refusal(name, experiments)
        if reason is None:
            datasets.append(name)
        else:
            refusals.append(reason)
    if not datasets or len(refusals) > 0 and not _share_measure(experiments, measure):
        raise ProjheadsError(f"nothing in these experiments can be paired: {'; '.join(refusals)}")
    measures = [name for name in experiments[0].measures if all(name in one.measures for one in experiments)]
    names = _distinct_names(experiments)
    return replace(
        experiments[0],
        name=" and ".join(names),
        description="",
        config_text="",
        measures=tuple(measures),
        datasets=tuple(datasets),
        trials=tuple(
            _renamed(trial, name, datasets, baseline=place == 0)
            for place, (name, one) in enumerate(zip(names, experiments, strict=True))
            for trial in one.trials
        ),
        references=tuple(
            replace(reference, name=f"{name}: {reference.name}", evaluations=_only(reference.evaluations, datasets))
            for name, one in zip(names, experiments, strict=True)
            for reference in one.references
        ),
    ), refusals


def _refusal(name: str, experiments: Sequence[Experiment]) -> str | None:
    """Return why a data set cannot be paired, or None where it can."""
    first = experiments[0]
    lacking = [one.name for one in experiments if name not in one.datasets]
    if lacking:
        return f"{name} is left out, for {', '.join(lacking)} has no evaluation on it"
    kind = _first_evaluation(first, name)
    for other in experiments[1:]:
        theirs = _first_evaluation(other, name)
        if theirs.dataset["hash"] != kind.dataset["hash"]:
            return f"{name} is left out, for {first.name} and {other.name} have different contents of it (hash)"
        if _queries(theirs) != _queries(kind):
            return f"{name} is left out, for {first.name} and {other.name} were scored on different queries of it"
    return None


def _measure_refusals(other: Experiment, measure: str, first: str) -> list[str]:
    if measure in other.measures:
        return []
    return [f"{first} is judged by {measure}, which {other.name} was not scored with"]


def _share_measure(experiments: Sequence[Experiment], measure: str) -> bool:
    return all(measure in one.measures for one in experiments)


def _first_evaluation(experiment: Experiment, dataset: str) -> Evaluation:
    return next(evaluations[dataset] for evaluations in experiment.evaluations() if dataset in evaluations)


def _queries(evaluation: Evaluation) -> frozenset[str]:
    return frozenset(next(iter(evaluation.measures.values())))


def _distinct_names(experiments: Sequence[Experiment]) -> list[str]:
    """Return the experiments' names, with their folders' where two are called the same."""
    names = [one.name for one in experiments]
    if len(set(names)) == len(names):
        return names
    return [one.path.as_posix() for one in experiments]


def _renamed(trial: Trial, experiment: str, datasets: Sequence[str], *, baseline: bool) -> Trial:
    record = dict(trial.record) | {"label": f"{experiment}: {trial.label}"}
    record["is_baseline"] = bool(trial.record.get("is_baseline")) and baseline
    return replace(trial, record=record, evaluations=_only(trial.evaluations, datasets))


def _only(evaluations: Mapping[str, Evaluation], datasets: Sequence[str]) -> dict[str, Evaluation]:
    return {name: evaluations[name] for name in datasets if name in evaluations}
