"""The sweep: every variant is trained at every point of a grid, and each of its seeds uses the best one.

At a fixed learning rate, a comparison may say more about which head suits it than about the heads. The best point has
the highest nDCG@10 on the development queries, or else on held-out training pairs; test queries play no part. A seed
uses the point that the other swept seeds choose, because the luck of the seed that chooses would otherwise be reported
as a gain. The trials of all points are in ``sweep/<variant>/<point>/seed-<n>``; those of the chosen points are shared
with ``trials/<variant>/seed-<n>``, where evaluation finds them. All decisions follow from files, so a stopped sweep
resumes.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from experiment.config import Grid, Point, at_edge, grid_points, grow_grid
from experiment.disk.files import write_folder, write_text
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.models import is_intact
from experiment.disk.records import SweepPoint, SweepRecord, TrialRecord, row_label
from experiment.rounds import planned_seeds
from projheads import HeadSpec
from projheads.errors import ProjheadsError
from train.optimization import count_steps
from train.preparation import Preparation
from train.trial import Trial, plan_trial
from train.validation import MEASURE, choice_measure

__all__ = ["Sweep", "plan_sweeps"]


@dataclass(frozen=True)
class Scores:
    """What the swept seeds of a variant scored at the points of a grid.

    Attributes:
        grid: The grid.
        points: Its points, in grid order.
        by_point: By the slug of a point, the score of each seed, None if its training failed; a seed that is not
            trained yet is absent.
        reasons: By the slug of a point, why the training of a seed failed.
    """

    grid: Grid
    points: Sequence[Point]
    by_point: Mapping[str, Mapping[int, float | None]]
    reasons: Mapping[str, Mapping[int, str]]

    def mean(self, point: Point, seeds: Sequence[int]) -> float | None:
        """Return a point's mean over seeds; None if one of them has no score."""
        scores = [self.by_point[point.slug].get(seed) for seed in seeds]
        good = [score for score in scores if score is not None]
        return sum(good) / len(good) if good and len(good) == len(scores) else None

    def best(self, seeds: Sequence[int]) -> Point | None:
        """Return the point with the highest mean, the first among equals; None if training failed at every point."""
        means = {point.slug: mean for point in self.points if (mean := self.mean(point, seeds)) is not None}
        chosen = max(means, key=lambda slug: means[slug], default=None)
        return next((point for point in self.points if point.slug == chosen), None)


@dataclass(frozen=True)
class Sweep:
    """The sweep of one variant.

    Attributes:
        prepared: What all trials share.
        spec: The variant.
        folder: The experiment's folder.
        seeds: The variant's seeds.
        planned: The trials that were described before, by point and seed.
    """

    prepared: Preparation
    spec: HeadSpec
    folder: ExperimentFolder
    seeds: Sequence[int]
    planned: dict[tuple[str, int], Trial] = field(default_factory=dict, repr=False)

    @property
    def swept(self) -> Sequence[int]:
        """The seeds that are trained at every point."""
        return self.prepared.config.swept_seeds

    def at(self, point: Point, seed: int) -> Trial:
        """Describe the trial of a point and seed."""
        if (point.slug, seed) not in self.planned:
            files = self.folder.candidate(self.spec.slug + self.prepared.point.suffix, point.slug, seed)
            trial = plan_trial(self.prepared, self.spec, seed, files, point.settings, point)
            self.planned[point.slug, seed] = trial
        return self.planned[point.slug, seed]

    def wanted(self) -> list[Trial]:
        """List the trials that are needed, as far as the finished ones show: the swept seeds first, then the others."""
        scores = self.scores()
        wanted = [self.at(point, seed) for point in scores.points for seed in self.swept]
        if all(len(seeds) == len(self.swept) for seeds in scores.by_point.values()):
            wanted += [self.at(self._used(scores, seed), seed) for seed in self.seeds[len(self.swept) :]]
        return wanted

    def expected(self) -> list[Trial]:
        """List the wanted trials, with those of the seeds that wait for the choice at the first point."""
        wanted, first = self.wanted(), self.scores().points[0]
        seeds = {trial.seed for trial in wanted}
        return [*wanted, *(self.at(first, seed) for seed in self.seeds if seed not in seeds)]

    def scores(self) -> Scores:
        """Read the scores of the swept seeds; the grid grows while what they choose is at its edge."""
        config = self.prepared.config
        grid = config.sweep.grid
        for _ in range(config.sweep.extend):
            scores = self._read(grid)
            chosen = scores.best(self.swept)
            if chosen is None or any(len(seeds) < len(self.swept) for seeds in scores.by_point.values()):
                return scores
            grown = grow_grid(grid, chosen.values, config.train)
            examples = len(self.prepared.data.examples)
            if grown == grid or not all(
                count_steps(one.settings, examples) for one in grid_points(grown, config.train)
            ):
                return scores
            grid = grown
        return self._read(grid)

    def _read(self, grid: Grid) -> Scores:
        points = grid_points(grid, self.prepared.config.train)
        scores: dict[str, dict[int, float | None]] = {point.slug: {} for point in points}
        reasons: dict[str, dict[int, str]] = {point.slug: {} for point in points}
        for point in points:
            for seed in self.swept:
                trial = self.at(point, seed)
                record = trial.folder.read_trial()
                if record is not None and record.key == trial.key:
                    scores[point.slug][seed], reason = _score(record, choice_measure(self.prepared.data))
                    if reason is not None:
                        reasons[point.slug][seed] = reason
        return Scores(grid, points, scores, reasons)

    def _choosers(self, seed: int) -> Sequence[int]:
        """List the seeds that choose for a seed: the other swept ones; with one swept seed, that one."""
        return [other for other in self.swept if other != seed] or self.swept

    def _used(self, scores: Scores, seed: int) -> Point:
        return scores.best(self._choosers(seed)) or scores.points[0]

    def _kept(self) -> list[Trial]:
        """List the trials whose models are evaluated: those of the chosen points and those at the shared rate."""
        config, scores = self.prepared.config, self.scores()
        kept = {
            seed: self.at(self._used(scores, seed), seed) for seed in self.seeds if scores.best(self._choosers(seed))
        }
        shared = config.sweep.shared_point(config.train) if config.eval.shared_rate else None
        at_shared = [self.at(shared, seed) for seed in self.swept] if shared else []
        return list({trial.folder.path: trial for trial in [*kept.values(), *at_shared]}.values())

    def without_model(self) -> list[Trial]:
        """List the kept trials whose models were deleted earlier, when a different point was the best."""
        return [trial for trial in self._kept() if trial.finished and not trial.folder.model.exists()]

    def delete_losers(self) -> None:
        """Delete the models that are not kept, if each holds its own trained backbone."""
        if self.prepared.config.train.trainable == "head":
            return
        kept = {trial.folder.path for trial in self._kept()}
        for trial in self.planned.values():
            if trial.folder.path not in kept:
                shutil.rmtree(trial.folder.model, ignore_errors=True)

    def publish(self) -> SweepRecord:
        """Write the variant's trials, those of the chosen points or failed ones; return the choice of all seeds."""
        scores = self.scores()
        for seed in self.seeds:
            chosen = scores.best(self._choosers(seed))
            trial = self.at(self._used(scores, seed), seed)
            record = trial.folder.read_trial()
            if record is None:
                raise ProjheadsError(f"{trial.folder.path}: trial.json is missing; rerun the same command")
            if chosen is None:
                reasons = [reason for point in scores.reasons.values() for reason in point.values()]
                error = f"training failed at every point of the sweep; {reasons[0]}"
                record = record.replace(status="failed", error=error, weights_hash=None, train=None)
            record = record.replace(sweep=self._record(scores, chosen))
            _publish(trial, record, self.folder.trial(self.spec.slug + self.prepared.point.suffix, seed))
        return self._record(scores, scores.best(self.swept))

    def _record(self, scores: Scores, chosen: Point | None) -> SweepRecord:
        by_all = scores.best(self.swept)
        return SweepRecord(
            measure=f"{MEASURE} on {self.prepared.data.choice}",
            grid={key: list(values) for key, values in scores.grid.items()},
            chosen=dict(chosen.values) if chosen else None,
            chosen_by_all=dict(by_all.values) if by_all else None,
            at_edge=at_edge(by_all.values, scores.grid) if by_all else [],
            points=[
                SweepPoint(
                    values=dict(point.values),
                    seeds={str(seed): scores.by_point[point.slug].get(seed) for seed in self.swept},
                    reasons={str(seed): reason for seed, reason in scores.reasons[point.slug].items()},
                )
                for point in scores.points
            ],
        )

    def summary(self) -> str:
        """Say in a line what was chosen."""
        scores = self.scores()
        by_all = scores.best(self.swept)
        if by_all is None:
            return "FAILED at every point of the sweep"
        record = self._record(scores, by_all)
        parts = [f"{by_all} is best with {record.measure} of {scores.mean(by_all, self.swept):.4f}"]
        if len(self.swept) == 1:
            parts.append(f"seed {self.swept[0]} chose for itself, so its score is flattered; sweep more seeds")
        others = {seed: self._used(scores, seed) for seed in self.swept}
        parts += [f"seed {seed} uses {point}" for seed, point in others.items() if point.slug != by_all.slug]
        if record.at_edge:
            parts.append(f"warning: at the edge of its grid: {', '.join(record.at_edge)}")
        return "; ".join(parts)


def plan_sweeps(prepared: Preparation, folder: ExperimentFolder) -> list[Sweep]:
    """List the sweep of each variant.

    Raises:
        ProjheadsError: If there are too few examples for a single step at some point.
    """
    config = prepared.config
    for point in grid_points(config.sweep.grid, config.train):
        if not count_steps(point.settings, len(prepared.data.examples)):
            raise ProjheadsError(
                f"sweep: the {len(prepared.data.examples)} examples of train.data are too few for one step at {point}; "
                "lower it"
            )
    seeds = planned_seeds(config, folder, prepared.point.values)
    rows = {spec: row_label(str(spec), prepared.point.values) for spec in config.heads.variants}
    return [Sweep(prepared, spec, folder, seeds[row]) for spec, row in rows.items()]


def _score(record: TrialRecord, measure: str) -> tuple[float | None, str | None]:
    """Return a trial's score by the measure that chooses, or the reason why there is none."""
    if record.status != "finished":
        return None, str(record.error)
    score = (record.validation or {}).get(measure)
    return score, f"its trial.json has no validation {measure}" if score is None else None


def _publish(trial: Trial, record: TrialRecord, to: TrialFolder) -> None:
    """Write a chosen trial where evaluation finds it; files are shared, and up-to-date ones are left alone."""
    finished = record.status == "finished"
    complete = is_intact(to.model, record.weights_hash) if finished else not to.model.exists()
    if to.read_trial() == record and complete:
        return
    to.trial_json.unlink(missing_ok=True)
    if finished:
        write_text(to.train_jsonl, trial.folder.train_jsonl.read_text(encoding="utf-8"))
        with write_folder(to.model) as temporary:
            shutil.copytree(trial.folder.model, temporary, copy_function=_link, dirs_exist_ok=True)
    record.write(to.trial_json)


def _link(source: str, target: str) -> None:
    """Hard-link a file, or copy it if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
