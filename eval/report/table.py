"""From result files to the leaderboard: rows with scores, verdicts and costs. Every format shows this table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from eval.report.chosen import Chosen, SweepShares, chosen_point, sweep_shares
from eval.report.explanations import Explanation, explanations
from eval.report.factors import GridEffects, grid_effects
from eval.report.judged import judge_all, judge_without, points_of, race_of, resolution_of
from eval.report.own_rates import OwnRate, own_rates
from eval.report.results import Evaluation, Experiment, Reference, Trial
from eval.report.storage import StoredForm, judge_losses, stored_forms
from eval.verdicts import Astray, Design, Race, Scores, Verdict, Winner, astray_trials, judge, winner
from eval.verdicts.pairs import Pairs, Shares, compare_all, group_letters, variance_shares
from eval.verdicts.variance import differences
from experiment.disk.records import DatasetFacts, TrialRecord
from projheads.errors import ProjheadsError, unknown_name

__all__ = ["Costs", "Leaderboard", "Row", "baselines_of", "build_leaderboard", "query_ids", "scores_of"]


@dataclass(frozen=True)
class Costs:
    """The costs of a variant; times are means over its trials.

    Attributes:
        parameters: Parameters of the head.
        multiply_adds: Multiply-adds of the head for one token, as trained.
        inference_multiply_adds: The same for its cheapest equal form, which is what it costs after training.
        folds: Whether the head folds to one matrix.
        train_s: Seconds of training; None if not measured.
        encode_per_s: Texts encoded per second, queries and documents together; None if not measured.
        index_bytes: Bytes of the index over all datasets; None without one.
        learning_rates: The learning rates of its trials.
        chosen: The point of the sweep that they were trained at; None without a sweep.
        clipped: Share of the training steps whose gradient was clipped; None if not recorded.
    """

    parameters: int
    multiply_adds: int
    inference_multiply_adds: int
    folds: bool
    train_s: float | None
    encode_per_s: float | None
    index_bytes: int | None
    learning_rates: tuple[float, ...]
    chosen: Chosen | None = None
    clipped: float | None = None


@dataclass(frozen=True)
class Row:
    """One row of the leaderboard.

    Attributes:
        label: The variant's label, or the reference's name.
        kind: What the row is.
        about: A reference's description; empty for a variant.
        seeds: Seeds whose trials count.
        scores: For each measure and dataset, the mean over queries of each of ``seeds``.
        verdict: Against the baseline over all datasets; None for the baseline, references and failed variants.
        dataset_verdicts: The same on each single dataset.
        costs: None for a reference, and for a variant without a finished trial.
        failures: Seed and reason of each trial that does not count.
        stored: Scores and bytes by form of storage, the largest first; empty if none was tried.
    """

    label: str
    kind: Literal["variant", "baseline", "reference"]
    about: str
    seeds: tuple[int, ...]
    scores: Mapping[str, Mapping[str, tuple[float, ...]]]
    verdict: Verdict | None
    dataset_verdicts: Mapping[str, Verdict]
    costs: Costs | None
    failures: tuple[tuple[int, str], ...]
    stored: tuple[StoredForm, ...] = ()

    def by_seed(self, measure: str) -> tuple[float, ...]:
        """Return each seed's mean over datasets."""
        return tuple(float(value) for value in np.mean(list(self.scores[measure].values()), axis=0))

    def mean(self, measure: str, dataset: str | None = None) -> float | None:
        """Return the mean over seeds, of one dataset or over all; None if no trial counts."""
        if not self.seeds:
            return None
        return float(np.mean(self.by_seed(measure) if dataset is None else self.scores[measure][dataset]))

    def spread(self, measure: str) -> float | None:
        """Return the sample standard deviation over seeds; None for fewer than two."""
        return float(np.std(self.by_seed(measure), ddof=1)) if len(self.seeds) > 1 else None


@dataclass(frozen=True)
class Leaderboard:
    """The table that every format shows.

    Attributes:
        experiment: The experiment it was made from.
        measure: The measure that verdicts are about.
        baseline: Label of the baseline.
        datasets: The description of each dataset, by name.
        rows: Variants, best mean first; those without a score last.
        references: Reference rows, best mean first.
        scores: Per-query scores of ``measure``, of every variant that has any.
        queries: The ids of each dataset's judged queries, in the order of ``scores``.
        letters: Group letters of each variant with enough seeds; two that share one are not distinguishable.
        shares: What moves a score; None if there are too few trials to say.
        sweep: What the learning rate and the seed move in the sweep's own scores; None without a sweep.
        design: What larger experiments would detect of the variant that needs the largest; None likewise.
        resolution: Differences below this do not matter, from 0 to 1; None if the experiment asks for none.
        astray: Trials whose score is far from those of the other seeds.
        without: The verdicts without them; empty if there are none.
        winner: The variant with the largest difference, and what it is without luck for new queries; None without
            verdicts.
        winner_here: The same on these queries.
        factors: What the factors of each grid do.
        at_shared_rate: The verdicts with every variant at the configured learning rate; empty without a sweep.
        own_rates: What each variant scores at that rate, and what its own changes; empty without a sweep.
        explanations: What the diagnostics found, by name; empty without ``eval.explain``.
        losses: For each form of storage and further search, each row's change against that of its baseline.
        race: Who is left of a race; None without one.
    """

    experiment: Experiment
    measure: str
    baseline: str
    datasets: Mapping[str, DatasetFacts]
    rows: tuple[Row, ...]
    references: tuple[Row, ...]
    scores: Mapping[str, Scores]
    queries: Mapping[str, tuple[str, ...]]
    letters: Mapping[str, tuple[str, ...]]
    shares: Shares | None
    sweep: SweepShares | None
    design: Design | None
    resolution: float | None = None
    astray: tuple[Astray, ...] = ()
    without: Mapping[str, Verdict] = field(default_factory=dict)
    winner: Winner | None = None
    winner_here: Winner | None = None
    factors: tuple[GridEffects, ...] = ()
    at_shared_rate: Mapping[str, Verdict] = field(default_factory=dict)
    own_rates: Mapping[str, OwnRate] = field(default_factory=dict)
    explanations: Mapping[str, Explanation] = field(default_factory=dict)
    losses: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)
    race: Race | None = None

    @property
    def has_why(self) -> bool:
        """Whether there is something to say about why heads win or lose: diagnostics, or other forms of storage."""
        return bool(self.explanations) or any(row.stored for row in self.rows)

    @property
    def baseline_row(self) -> Row:
        """The baseline's row."""
        return next(row for row in self.rows if row.label == self.baseline)

    @property
    def against(self) -> str:
        """What all rows are compared with: the baseline, or that of the same point of the axes if there are several."""
        if len(set(baselines_of(self.experiment).values())) < 2:
            return self.baseline
        label = next(trial.record.label for trial in self.experiment.trials if trial.label == self.baseline)
        return f"{label} at the same settings"

    def baseline_of(self, label: str) -> str:
        """Return the label of the row that a row is compared with."""
        return baselines_of(self.experiment).get(label, self.baseline)

    @property
    def query_count(self) -> int:
        """Number of judged queries, all datasets together."""
        return sum(map(len, self.queries.values()))


def build_leaderboard(experiment: Experiment) -> Leaderboard:
    """Compute the leaderboard.

    Raises:
        ProjheadsError: If the experiment has no evaluation or not exactly one baseline, or if its evaluations of a
            dataset differ in its hash or queries.
    """
    baseline = _baseline(experiment)
    if not experiment.datasets:
        raise ProjheadsError(f"{experiment.path}: no trial has an evaluation yet; run python -m eval {experiment.path}")
    datasets = _datasets(experiment)
    labels = list(dict.fromkeys(trial.label for trial in experiment.trials))
    groups = {label: [trial for trial in experiment.trials if trial.label == label] for label in labels}
    complete = {label: [trial for trial in group if not _missing(trial, experiment)] for label, group in groups.items()}
    queries = {name: query_ids(experiment, name) for name in experiment.datasets}
    measure = experiment.measures[0]
    scores = {label: scores_of(trials, measure, queries) for label, trials in complete.items() if trials}
    baselines = baselines_of(experiment)
    shared = _shared_scores(experiment, measure, queries)
    verdicts, by_dataset = judge_all(experiment, scores, baselines)
    astray = astray_trials(scores)
    pairs = compare_all(scores)
    rows = [
        Row(
            label=label,
            kind="baseline" if label in baselines.values() else "variant",
            about="",
            seeds=tuple(trial.seed for trial in complete[label]),
            scores=_means(experiment, complete[label], queries),
            verdict=verdicts.get(label),
            dataset_verdicts={name: by_dataset[name][label] for name in by_dataset if label in by_dataset[name]},
            costs=_costs(complete[label]) if complete[label] and complete[label][0].record.parameters else None,
            failures=tuple((one.seed, why) for one in groups[label] if (why := _missing(one, experiment))),
            stored=stored_forms(complete[label], measure, scores[label], queries) if complete[label] else (),
        )
        for label in labels
    ]
    return Leaderboard(
        experiment=experiment,
        measure=measure,
        baseline=baseline,
        datasets=datasets,
        rows=_best_first(rows, measure),
        references=_best_first(_reference_rows(experiment, queries), measure),
        scores=scores,
        queries=queries,
        letters=group_letters(pairs, verdicts, baseline),
        shares=_shares(experiment, scores, pairs),
        sweep=sweep_shares(experiment.trials),
        design=_design(scores, baselines),
        resolution=resolution_of(experiment),
        astray=tuple(astray),
        without=judge_without(experiment, scores, astray, baselines) if astray else {},
        winner=winner(verdicts),
        winner_here=winner(verdicts, new_queries=False),
        factors=grid_effects(experiment, scores),
        at_shared_rate=_at_shared_rate(experiment, shared, baselines),
        own_rates=own_rates(scores, shared, experiment.datasets),
        explanations=explanations([one for trials in complete.values() for one in trials], experiment.references),
        losses=judge_losses({row.label: row.stored for row in rows}, baselines),
        race=race_of(experiment, scores, baselines) if experiment.question.get("race") and verdicts else None,
    )


def query_ids(experiment: Experiment, dataset: str) -> tuple[str, ...]:
    """Return the ids of a dataset's judged queries, in the order of the first evaluation."""
    for evaluations in experiment.evaluations():
        if dataset in evaluations:
            return tuple(evaluations[dataset].record.queries)
    return ()


def scores_of(trials: Sequence[Trial], measure: str, queries: Mapping[str, Sequence[str]]) -> Scores:
    """Return one variant's per-query scores, datasets and queries in the order of ``queries``."""
    tables = [
        np.array([[trial.evaluations[name].record.measures[measure][query] for query in ids] for trial in trials])
        for name, ids in queries.items()
    ]
    record = trials[0].record
    # A group named by the variant's own label is shared with no other variant.
    start = record.start_group if record.start_group != record.label else None
    return Scores(tuple(trial.seed for trial in trials), tuple(tables), start)


def _baseline(experiment: Experiment) -> str:
    """Return the baseline's label, at the first point of the axes."""
    labels = sorted({trial.record.label for trial in experiment.trials if trial.record.is_baseline})
    if len(labels) != 1:
        found = ", ".join(labels) if labels else "none"
        raise ProjheadsError(
            f"{experiment.path}: a report needs exactly one baseline, found {found}; set heads.baseline and train again"
        )
    return next(trial.label for trial in experiment.trials if trial.record.is_baseline)


def baselines_of(experiment: Experiment) -> dict[str, str]:
    """Return each row's baseline: the baseline variant at the same point of the axes."""
    at = {trial.point: trial.label for trial in experiment.trials if trial.record.is_baseline}
    return {trial.label: at[trial.point] for trial in experiment.trials if trial.point in at}


def _datasets(experiment: Experiment) -> dict[str, DatasetFacts]:
    """Return the description of each dataset, after checking that all evaluations used the same one."""
    known: dict[str, tuple[DatasetFacts, frozenset[str]]] = {}
    for evaluations in experiment.evaluations():
        for name, evaluation in evaluations.items():
            queries = _checked_queries(experiment, evaluation)
            first, first_queries = known.setdefault(name, (evaluation.record.dataset, queries))
            if evaluation.record.dataset.hash != first.hash or queries != first_queries:
                raise ProjheadsError(
                    f"{evaluation.path}: the content or the queries of {name} differ from those "
                    "of the other evaluations, so it cannot be paired; delete this file and evaluate again"
                )
    return {name: known[name][0] for name in experiment.datasets}


def _checked_queries(experiment: Experiment, evaluation: Evaluation) -> frozenset[str]:
    for measure in experiment.measures:
        if measure not in evaluation.record.measures:
            unknown = unknown_name("measure", measure, evaluation.record.measures)
            raise ProjheadsError(f"{evaluation.path}: {unknown}; evaluate again")
    queries = frozenset(evaluation.record.queries)
    if len(queries) < 2:
        raise ProjheadsError(f"{evaluation.path}: has scores of fewer than two queries; judge more queries")
    return queries


def _missing(trial: Trial, experiment: Experiment) -> str | None:
    """Return why a trial does not count, or None if it does."""
    if trial.error is not None:
        return trial.error
    lacking = [name for name in experiment.datasets if name not in trial.evaluations]
    return f"not evaluated on {', '.join(lacking)}" if lacking else None


def _shared_scores(experiment: Experiment, measure: str, queries: Mapping[str, Sequence[str]]) -> dict[str, Scores]:
    """Return each variant's scores at the configured learning rate, if a sweep chose their own."""
    groups: dict[str, list[Trial]] = {}
    for trial in experiment.shared:
        if not _missing(trial, experiment):
            groups.setdefault(trial.label, []).append(trial)
    own = {trial.record.learning_rate for trial in experiment.trials}
    if own <= {experiment.shared_rate}:
        return {}
    return {label: scores_of(trials, measure, queries) for label, trials in groups.items()}


def _at_shared_rate(
    experiment: Experiment, shared: Mapping[str, Scores], baselines: Mapping[str, str]
) -> dict[str, Verdict]:
    """Judge the variants at the configured learning rate, each against its baseline."""
    points, resolution = points_of(shared, baselines), resolution_of(experiment)
    judged = [judge(group, one, resolution=resolution, families=len(points)) for one, group in points.items()]
    return {label: verdict for verdicts in judged for label, verdict in verdicts.items()}


def _shares(experiment: Experiment, scores: Mapping[str, Scores], pairs: Pairs) -> Shares | None:
    first = {trial.label: trial.record for trial in reversed(experiment.trials)}
    heads = {label: json.dumps(first[label].head, sort_keys=True) for label in scores}
    return variance_shares(scores, pairs, heads, {label: first[label].learning_rate for label in scores})


def _design(scores: Mapping[str, Scores], baselines: Mapping[str, str]) -> Design | None:
    points, found = points_of(scores, baselines), list[Design]()
    for baseline, group in points.items():
        several = [one for one in differences(group, baseline).values() if min(one.seeds, one.baseline_seeds) > 1]
        found += [Design(one, len(several) * len(points)) for one in several]
    return max(found, key=lambda design: design.smallest_shown(), default=None)


def _means(
    experiment: Experiment, trials: Sequence[Trial | Reference], queries: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, tuple[float, ...]]]:
    return {
        measure: {
            name: tuple(
                float(np.mean([one.evaluations[name].record.measures[measure][query] for query in ids]))
                for one in trials
            )
            for name, ids in queries.items()
        }
        for measure in experiment.measures
    }


def _at_inference(record: TrialRecord) -> int:
    """Return the cost of the cheapest equal form, which older records lack; a head that folds is one matrix."""
    if record.inference_multiply_adds is not None:
        return record.inference_multiply_adds
    folded = record.in_features * record.out_features
    return min(record.multiply_adds, folded) if record.folds else record.multiply_adds


def _costs(trials: Sequence[Trial]) -> Costs:
    first = trials[0].record
    evaluations = [evaluation.record for trial in trials for evaluation in trial.evaluations.values()]
    encode_s = sum(one.timings.encode_s for one in evaluations)
    texts = sum(one.dataset.documents + one.dataset.queries for one in evaluations)
    index_bytes = [sum(one.record.bytes.index for one in trial.evaluations.values()) for trial in trials]
    train_s = [seconds for trial in trials if (seconds := trial.record.timings.train_s) is not None]
    clipped = [one.clipped for trial in trials if (one := trial.record.train) is not None and one.clipped is not None]
    rates = {rate for trial in trials if (rate := trial.record.learning_rate) is not None}
    return Costs(
        parameters=first.parameters,
        multiply_adds=first.multiply_adds,
        inference_multiply_adds=_at_inference(first),
        folds=first.folds,
        train_s=float(np.mean(train_s)) if train_s else None,
        encode_per_s=texts / encode_s if encode_s > 0 else None,
        index_bytes=round(float(np.mean(index_bytes))) or None,
        learning_rates=tuple(sorted(rates)),
        chosen=chosen_point(trials),
        clipped=float(np.mean(clipped)) if clipped else None,
    )


def _reference_rows(experiment: Experiment, queries: Mapping[str, Sequence[str]]) -> list[Row]:
    rows = []
    for label in dict.fromkeys(reference.label for reference in experiment.references):
        group = [one for one in experiment.references if one.label == label]
        complete = [one for one in group if all(dataset in one.evaluations for dataset in queries)]
        # A start that every seed shares is evaluated once.
        counted = {one.record.weights_hash for one in complete if one.record.weights_hash is not None}
        lacking = tuple(
            (one.record.seed, "not evaluated on every dataset")
            for one in group
            if one not in complete and one.record.weights_hash not in counted
        )
        rows.append(
            Row(
                label=label,
                kind="reference",
                about=group[0].record.description,
                seeds=tuple(one.record.seed for one in complete),
                scores=_means(experiment, complete, queries),
                verdict=None,
                dataset_verdicts={},
                costs=None,
                failures=lacking,
            )
        )
    return rows


def _best_first(rows: Sequence[Row], measure: str) -> tuple[Row, ...]:
    def place(row: Row) -> tuple[float, str]:
        mean = row.mean(measure)
        return (float("inf") if mean is None else -mean, row.label)

    return tuple(sorted(rows, key=place))
