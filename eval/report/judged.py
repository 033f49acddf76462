"""The verdicts of a leaderboard, with the question that was asked and the looks that came before."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from eval.report.results import Experiment
from eval.verdicts import (
    MINIMUM_SEEDS,
    Astray,
    Decision,
    Race,
    Scope,
    Scores,
    Verdict,
    decide,
    judge,
    judge_datasets,
    race,
)
from experiment.disk.records import RoundsRecord

__all__ = [
    "all_looks",
    "asks_about_new_queries",
    "earlier_looks",
    "judge_all",
    "judge_rows",
    "judge_without",
    "most_seeds",
    "points_of",
    "race_of",
    "read_before",
    "resolution_of",
]


def resolution_of(experiment: Experiment) -> float | None:
    """Return the resolution that the experiment asks for, from 0 to 1; None without a question."""
    asked = experiment.question.get("resolution")
    return None if asked is None else float(asked) / 100


def asks_about_new_queries(experiment: Experiment) -> bool:
    """Return whether the experiment's question is about new queries instead of these; False without a question."""
    return experiment.question.get("queries") == "new"


def judge_all(
    experiment: Experiment, scores: Mapping[str, Scores], baselines: Mapping[str, str]
) -> tuple[dict[str, Verdict], dict[str, dict[str, Verdict]]]:
    """Judge over all datasets and on each, every row against its own baseline."""
    suite: dict[str, Verdict] = {}
    single: dict[str, dict[str, Verdict]] = {}
    points = points_of(scores, baselines)
    for baseline, group in points.items():
        judged = judge_rows(experiment, group, baseline, families=len(points))
        names = experiment.datasets
        by_dataset = judge_datasets(group, baseline, names) if len(names) > 1 else {names[0]: judged}
        suite |= judged
        for name, verdicts in by_dataset.items():
            single.setdefault(name, {}).update(verdicts)
    return suite, single


def points_of(scores: Mapping[str, Scores], baselines: Mapping[str, str]) -> dict[str, dict[str, Scores]]:
    """Return the scores of each baseline and of the rows that are compared with it."""
    found = {
        baseline: {label: one for label, one in scores.items() if baselines.get(label) == baseline}
        for baseline in dict.fromkeys(baselines.values())
        if baseline in scores
    }
    return {baseline: group for baseline, group in found.items() if len(group) > 1}


def judge_without(
    experiment: Experiment, scores: Mapping[str, Scores], astray: Sequence[Astray], baselines: Mapping[str, str]
) -> dict[str, Verdict]:
    """Judge without the trials that went astray."""
    kept = {
        label: one.without([trial.seed for trial in astray if trial.variant == label]) for label, one in scores.items()
    }
    verdicts, _ = judge_all(experiment, kept, baselines)
    return verdicts


def judge_rows(
    experiment: Experiment, scores: Mapping[str, Scores], baseline: str, *, families: int = 1
) -> dict[str, Verdict]:
    """Judge every variant over all datasets; after several looks, as all of them together allow.

    Args:
        experiment: The experiment, for its question and its earlier looks.
        scores: The variants' scores.
        baseline: The baseline's label.
        families: Number of baselines, one at each point of the axes, whose verdicts are read together.
    """
    resolution = resolution_of(experiment)
    verdicts = judge(scores, baseline, resolution=resolution, families=families)
    ordered, looks = all_looks(experiment, scores, baseline)
    if not looks or (len(looks) == 1 and not experiment.question):
        return verdicts
    here, new = (
        decide(
            ordered,
            baseline,
            looks,
            most=most_seeds(experiment),
            resolution=resolution,
            new_queries=new_queries,
            families=families,
        )
        for new_queries in (False, True)
    )
    return {
        label: replace(
            verdict,
            these_queries=_scope(verdict.these_queries, here[label], resolution),
            new_queries=_scope(verdict.new_queries, new[label], resolution),
        )
        if label in here and not verdict.fixed
        else verdict
        for label, verdict in verdicts.items()
    }


def all_looks(
    experiment: Experiment, scores: Mapping[str, Scores], baseline: str
) -> tuple[dict[str, Scores], list[dict[str, int]]]:
    """Return the scores, seeds in the order in which looks first saw them, and the looks, the present one last."""
    record = experiment.rounds
    trained = record.trained if record else {}
    ordered = {label: _in_order(one, trained.get(label, [])) for label, one in scores.items()}
    looks = earlier_looks(record, scores)
    present = {label: len(one.seeds) for label, one in ordered.items()}
    enough = [label for label, count in present.items() if count >= MINIMUM_SEEDS]
    if baseline in enough and len(enough) > 1 and present not in looks[-1:]:
        looks.append(present)
    return ordered, [look for look in looks if look.get(baseline, 0) > 0]


def race_of(experiment: Experiment, scores: Mapping[str, Scores], baselines: Mapping[str, str]) -> Race:
    """Return what is left of an experiment's variants after all looks, if they race."""
    (baseline,) = dict.fromkeys(baselines.values())
    ordered, looks = all_looks(experiment, scores, baseline)
    return race(ordered, looks, new_queries=asks_about_new_queries(experiment))


def earlier_looks(record: RoundsRecord | None, scores: Mapping[str, Scores]) -> list[dict[str, int]]:
    """Return how many seeds of each row the recorded looks saw, without trials that were deleted since."""
    if record is None:
        return []
    return [
        {
            label: sum(seed in scores[label].seeds for seed in record.trained.get(label, range(count))[:count])
            for label, count in look.seeds.items()
            if label in scores
        }
        for look in record.looks
    ]


def most_seeds(experiment: Experiment) -> int | None:
    """Return the most seeds of a variant, if they were fixed before the first look."""
    record, seeds = experiment.rounds, experiment.question.get("seeds")
    if record is not None and record.looks and record.question != experiment.question:
        return None
    return int(seeds[1]) if isinstance(seeds, Sequence) and len(seeds) == 2 else None


def read_before(experiment: Experiment, scores: Mapping[str, Scores]) -> bool:
    """Return whether the effects of these rows were read before seeds were added by hand.

    A look at which a row had too few seeds for effects does not count, nor one that saw the seeds that there are now.
    The rounds of a question do not either: what they add depends on the variants' verdicts, not on effects.
    """
    if most_seeds(experiment) is not None:
        return False
    present = {label: len(one.seeds) for label, one in scores.items()}
    looks = [{label: look.get(label, 0) for label in scores} for look in earlier_looks(experiment.rounds, scores)]
    return any(min(look.values(), default=0) >= MINIMUM_SEEDS and look != present for look in looks)


def _in_order(scores: Scores, trained: Sequence[int]) -> Scores:
    order = [seed for seed in trained if seed in scores.seeds]
    order += [seed for seed in scores.seeds if seed not in order]
    return replace(scores, seeds=tuple(order), tables=scores.at(order))


def _scope(scope: Scope, decision: Decision, resolution: float | None) -> Scope:
    undecided = decision.word == "undecided" and resolution is None
    return replace(
        scope,
        difference=decision.difference,
        low=decision.low,
        high=decision.high,
        adjusted_p=decision.adjusted_p,
        equivalent_p=decision.equivalent_p,
        word="no difference shown" if undecided else decision.word,
    )
