"""Several experiments or folders of given models, possibly from different machines, as one."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.report.reading import load_experiment
from eval.report.results import Evaluation, Experiment, Trial
from experiment.disk.records import EvaluationRecord
from experiment.disk.yaml12 import read_yaml
from projheads.errors import ProjheadsError

__all__ = ["merge_experiments"]

OWN = (
    "name",
    "description",
    "output",
    "cache",
    "heads.",
    "seeds",
    "question",
    "models",
    "eval.datasets",
    "eval.measures",
)
"""Settings in which experiments differ as a matter of course."""

SHOWN = 8
"""At most so many differing settings are listed."""


def merge_experiments(paths: Sequence[Path], others: Sequence[Experiment] = ()) -> Experiment:
    """Read experiments and merge them on the data sets whose scores can be paired.

    Args:
        paths: Their folders; the baseline of the first is the baseline of all.
        others: Results of other programs, read by ``eval.foreign``.

    Returns:
        One experiment, whose variants are prefixed with their experiment's name; its remarks say what was left out.

    Raises:
        ProjheadsError: If there are fewer than two, one is listed twice, or nothing can be paired.
    """
    listed = [*paths, *(one.path for one in others)]
    if not paths or len({path.resolve() for path in listed}) < max(2, len(listed)):
        raise ProjheadsError("a comparison needs the folders of at least two experiments, each listed once")
    experiments = [*(load_experiment(path) for path in paths), *others]
    first = experiments[0]
    for other in experiments[1:]:
        if first.measures and first.measures[0] not in other.measures:
            raise ProjheadsError(
                f"{other.path}: was not scored with {first.measures[0]}, the first measure of {first.path}, so they "
                "cannot be paired; evaluate it with that measure"
            )
    candidates = dict.fromkeys(name for one in experiments for name in one.datasets)
    refusals = {name: reason for name in candidates if (reason := _refusal(name, experiments))}
    datasets = [name for name in candidates if name not in refusals]
    if not datasets:
        raise ProjheadsError(f"nothing in these experiments can be paired: {'; '.join(refusals.values())}")
    # If the experiments differ in a length, a note that names one would be wrong for the others.
    lengths = {
        side: length
        for side, length in first.lengths.items()
        if {one.lengths.get(side) for one in experiments} == {length}
    }
    names, seed = _distinct_names(experiments), _shared_seed(experiments)
    named = list(zip(names, experiments, strict=True))
    return Experiment(
        path=first.path,
        name=" and ".join(names),
        description="",
        config_text="\n".join(f"# {name}\n{one.config_text}" for name, one in named),
        measures=tuple(name for name in first.measures if all(name in one.measures for one in experiments)),
        datasets=tuple(datasets),
        trials=tuple(
            _renamed(trial, name, datasets, seed, first=one is first) for name, one in named for trial in one.trials
        ),
        references=tuple(
            replace(
                reference,
                record=reference.record.replace(name=_prefixed(name, reference.record.name)),
                evaluations=_only(reference.evaluations, datasets),
            )
            for name, one in named
            for reference in one.references
        ),
        command=f"python -m eval compare {' '.join(shlex.quote(path.as_posix()) for path in listed)}",
        remarks=tuple(
            dict.fromkeys(
                [*_differing(named), *refusals.values(), *(text for one in experiments for text in one.remarks)]
            )
        ),
        lengths=lengths,
    )


def _differing(named: Sequence[tuple[str, Experiment]]) -> list[str]:
    """Say which settings of the experiments differ: they may matter as much as the heads."""
    settings = {
        name: dict(_flat(read_yaml(one.config_text, str(one.path))[0])) for name, one in named if one.config_text
    }
    found = []
    for key in dict.fromkeys(key for values in settings.values() for key in values):
        values = {name: one[key] for name, one in settings.items() if key in one}
        if not key.startswith(OWN) and len(values) == len(settings) and len(set(values.values())) > 1:
            found.append(f"{key}: {', '.join(f'{value} ({name})' for name, value in values.items())}")
    shown = [*found[:SHOWN], f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else found
    return [f"The experiments differ in more than their heads: {'; '.join(shown)}."] if found else []


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting of a configuration as a dotted key and its value as text."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, json.dumps(value, ensure_ascii=False)


def _refusal(name: str, experiments: Sequence[Experiment]) -> str | None:
    """Return why a data set cannot be paired; None if it can."""
    first = experiments[0]
    lacking = [one.name for one in experiments if name not in one.datasets]
    if lacking:
        return f"{name} is left out: {', '.join(lacking)} has no evaluation on it"
    kind = _first_evaluation(first, name)
    for other in experiments[1:]:
        theirs = _first_evaluation(other, name)
        if theirs.dataset.hash != kind.dataset.hash:
            return f"{name} is left out: its content differs between {first.name} and {other.name} (hash)"
        if set(theirs.queries) != set(kind.queries):
            return f"{name} is left out: {first.name} and {other.name} were scored on different queries of it"
    return None


def _first_evaluation(experiment: Experiment, dataset: str) -> EvaluationRecord:
    return next(evaluations[dataset].record for evaluations in experiment.evaluations() if dataset in evaluations)


def _distinct_names(experiments: Sequence[Experiment]) -> list[str]:
    """Return the experiments' names, or their folders if two have the same name."""
    names = [one.name for one in experiments]
    if len(set(names)) == len(names):
        return names
    return [one.path.as_posix() for one in experiments]


def _shared_seed(experiments: Sequence[Experiment]) -> int:
    """Return the seed that pairs given models, which have none, with trials: the first seed of the trials."""
    seeds = [trial.seed for one in experiments for trial in one.trials if trial.record.checkpoint is None]
    return seeds[0] if seeds else 0


def _renamed(trial: Trial, experiment: str, datasets: Sequence[str], seed: int, *, first: bool) -> Trial:
    start = trial.record.start_group
    record = trial.record.replace(
        label=_prefixed(experiment, trial.record.label),  # the point of the axes follows it
        # Starts of one name may differ between experiments.
        start_group=start and f"{experiment}: {start}",
        seed=trial.seed if trial.record.checkpoint is None else seed,
        is_baseline=trial.record.is_baseline and first,
    )
    return replace(trial, record=record, evaluations=_only(trial.evaluations, datasets))


def _prefixed(experiment: str, label: str) -> str:
    """Name a row after its experiment; the only row of a model's own results has its name."""
    return label if label == experiment else f"{experiment}: {label}"


def _only(evaluations: Mapping[str, Evaluation], datasets: Sequence[str]) -> dict[str, Evaluation]:
    return {name: evaluations[name] for name in datasets if name in evaluations}
