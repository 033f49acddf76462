"""The sweep: every variant is trained at every point of a grid and keeps the best one.

At a fixed learning rate, a comparison may say more about which head suits it than about the heads. For each variant,
the point with the highest nDCG@10 on the held-out training pairs, averaged over seeds, is chosen; test queries play no
part. The trials of all points are in ``sweep/<variant>/<point>/seed-<n>``; those of the chosen point are shared with
``trials/<variant>/seed-<n>``, where evaluation finds them.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiment.config import Point, grid_points
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
from train.validation import MEASURE

__all__ = ["Sweep", "plan_sweeps"]


@dataclass(frozen=True)
class Choice:
    """The outcome of a variant's sweep.

    Attributes:
        point: The chosen point; None if training failed at every point.
        mean: Its mean over the seeds; None without a point.
        record: The sweep as recorded in trial.json.
    """

    point: Point | None
    mean: float | None
    record: SweepRecord


@dataclass(frozen=True)
class Sweep:
    """The sweep of one variant.

    Attributes:
        prepared: What all trials share.
        spec: The variant.
        trials: One trial for each point and seed.
    """

    prepared: Preparation
    spec: HeadSpec
    trials: Sequence[Trial]

    @property
    def points(self) -> list[Point]:
        """The points, in grid order."""
        return list({trial.point.slug: trial.point for trial in self.trials if trial.point}.values())

    def at(self, point: Point) -> list[Trial]:
        """Return the trials of a point, one per seed."""
        return [trial for trial in self.trials if trial.point and trial.point.slug == point.slug]

    def choose(self) -> Choice:
        """Choose the point with the highest mean over the seeds, the first among equals; failed points are skipped."""
        points, means = [], {}
        for point in self.points:
            scores, reasons = {}, {}
            for trial in self.at(point):
                scores[str(trial.seed)], reason = _score(trial)
                if reason is not None:
                    reasons[str(trial.seed)] = reason
            points.append(SweepPoint(values=dict(point.values), seeds=scores, reasons=reasons))
            good = [score for score in scores.values() if score is not None]
            if len(good) == len(scores):
                means[point.slug] = sum(good) / len(good)
        grid = self.prepared.config.sweep
        chosen = max(self.points, key=lambda point: means.get(point.slug, -1.0)) if means else None
        record = SweepRecord(
            measure=f"{MEASURE} on {len(self.prepared.data.validation)} held-out pairs",
            grid={key: list(values) for key, values in grid.items()},
            chosen=dict(chosen.values) if chosen else None,
            at_edge=_at_edge(chosen.values, grid) if chosen else [],
            points=points,
        )
        return Choice(chosen, means[chosen.slug] if chosen else None, record)

    def without_model(self, choice: Choice) -> list[Trial]:
        """List the chosen trials whose models were deleted earlier, when a different point was the best."""
        trials = self.at(choice.point) if choice.point else []
        return [trial for trial in trials if not trial.folder.model.exists()]

    def delete_losers(self) -> None:
        """Delete the models of the points that were not chosen, if each holds its own trained backbone."""
        if self.prepared.config.train.trainable == "head":
            return
        point = self.choose().point
        for trial in self.trials:
            if point is None or (trial.point and trial.point.slug != point.slug):
                shutil.rmtree(trial.folder.model, ignore_errors=True)

    def publish(self, choice: Choice, folder: ExperimentFolder) -> str:
        """Write the variant's trials, those of the chosen point or failed ones; return a one-line summary."""
        point = choice.point or self.points[0]
        for trial in self.at(point):
            record = trial.folder.read_trial()
            if record is None:
                raise ProjheadsError(f"{trial.folder.path}: trial.json is missing; rerun the same command")
            if choice.point is None:
                reasons = [reason for one in choice.record.points for reason in one.reasons.values()]
                error = f"training failed at every point of the sweep; {reasons[0]}"
                record = record.replace(status="failed", error=error, weights_hash=None, train=None)
            _publish(
                trial,
                record.replace(sweep=choice.record),
                folder.trial(self.spec.slug + self.prepared.point.suffix, trial.seed),
            )
        if choice.point is None:
            return "FAILED at every point of the sweep"
        edge = choice.record.at_edge
        warning = f"; warning: at the edge of its grid: {', '.join(edge)}" if edge else ""
        return f"{choice.point} is best with {choice.record.measure} of {choice.mean:.4f}{warning}"


def plan_sweeps(prepared: Preparation, folder: ExperimentFolder) -> list[Sweep]:
    """List the sweep of each variant.

    Raises:
        ProjheadsError: If there are too few examples for a single step at some point.
    """
    config = prepared.config
    points, seeds = grid_points(config.sweep, config.train), planned_seeds(config, folder, prepared.point.values)
    for point in points:
        if not count_steps(point.settings, len(prepared.data.examples)):
            raise ProjheadsError(
                f"sweep: the {len(prepared.data.examples)} examples of train.data are too few for one step at {point}; "
                "lower it"
            )
    return [
        Sweep(
            prepared,
            spec,
            [
                plan_trial(
                    prepared,
                    spec,
                    seed,
                    folder.candidate(spec.slug + prepared.point.suffix, point.slug, seed),
                    point.settings,
                    point,
                )
                for point in points
                for seed in seeds[row_label(str(spec), prepared.point.values)]
            ],
        )
        for spec in config.heads.variants
    ]


def _score(trial: Trial) -> tuple[float | None, str | None]:
    """Return a trial's score on the held-out pairs, or the reason why there is none."""
    record = trial.folder.read_trial()
    if record is None:
        return None, "not trained"
    if record.status != "finished":
        return None, str(record.error)
    score = (record.validation or {}).get(MEASURE)
    return score, f"its trial.json has no validation {MEASURE}" if score is None else None


def _at_edge(chosen: Mapping[str, Any], grid: dict[str, tuple[Any, ...]]) -> list[str]:
    """List the keys whose chosen value is the smallest or the largest of several numbers."""
    ordered = [
        key
        for key, values in grid.items()
        if len(values) >= 2 and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    ]
    return [key for key in ordered if chosen[key] in (min(grid[key]), max(grid[key]))]


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
