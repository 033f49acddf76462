"""Trains an experiment: every variant with every seed, each trial once."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from experiment.claim import claim_folder, is_stored, store_config
from experiment.config import ExperimentConfig, TrainConfig
from experiment.console.progress import Advance, Progress
from experiment.disk.files import write_bytes
from experiment.disk.layout import ExperimentFolder
from experiment.encoding.device import describe_device
from experiment.executors.local import LocalExecutor
from experiment.executors.protocol import Executor
from experiment.saturation import saturation_warning
from projheads import head_warnings
from projheads.errors import ProjheadsError
from train.data.examples import load_training_data
from train.duration import describe_training
from train.embedding.states import open_all_states
from train.embedding.way import choose_states, with_states
from train.eval_collections import known_test_queries, open_test_collections
from train.lockstep import LockstepTrainer, lockstep_groups
from train.preparation import Preparation, check_starts, new_head, own_start, prepare
from train.processes import Processes, join_processes
from train.sweep import Sweep, plan_sweeps
from train.trainer import Trainer, write_failed, write_untrained
from train.trial import Trial, plan_trials
from train.words import write_words

__all__ = ["train_experiment", "train_trials"]


def train_experiment(config: ExperimentConfig, executor: Executor | None = None) -> list[str]:
    """Train every trial of an experiment that is not finished yet.

    Args:
        config: The experiment.
        executor: Where the trials are trained; None for this process.

    Returns:
        The names of the trials that failed.

    Raises:
        ProjheadsError: If the data, the backbone or the output folder cannot be used.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with (
        join_processes(config.device) as (processes, device),
        Progress(quiet=not processes.main) as progress,
        claim_folder(config, progress.say)
        if processes.main
        else nullcontext(ExperimentFolder(config.output)) as folder,
    ):
        if processes.count > 1 and executor is not None and not isinstance(executor, LocalExecutor):
            raise ProjheadsError("--executor ray and --workers start their own processes; run them without a launcher")
        if processes.count > 1:
            progress.say(f"{processes.count} processes train each trial together")
        elif "ACCELERATE_USE_CPU" in os.environ:
            progress.say(
                "accelerate launch started one process, which is all that it starts on CPUs; for several use "
                "torchrun --nproc-per-node N -m train"
            )
        finished: dict[str, bool] = {}
        trained_with: TrainConfig | None = None
        starts = config.reference_points("untrained") if "untrained" in config.eval.references else []
        with ExitStack() as stored:
            for place, (point, derived) in enumerate(config.points()):
                if point.values:
                    progress.say(f"axes: {point}")
                if derived.train != trained_with:  # otherwise the data is that of the point before
                    with processes.main_first():
                        data = load_training_data(derived)
                    trained_with = derived.train
                for line in data.describe(derived.train.data):
                    progress.say(line)
                prepared = prepare(derived.model_copy(update={"device": device}), data, point)
                if place == 0 and config.axes:  # train_trials builds the heads of one point before its first trial
                    check_starts(prepared, config)
                if place == 0 and processes.main:
                    stored.enter_context(_stored(config, folder, finished))
                    if config.eval.explain is not None:
                        write_words(folder, data)
                for start in starts:
                    if processes.main and start.point == point:
                        write_untrained(start, prepared, folder)
                finished |= train_trials(prepared, folder, processes, executor or LocalExecutor(), progress)
        return [name for name, trained in finished.items() if not trained]


@contextmanager
def _stored(config: ExperimentConfig, folder: ExperimentFolder, finished: Mapping[str, bool]) -> Iterator[None]:
    """Store the configuration; if the training fails, or no trial is ``finished``, restore an earlier valid one."""
    valid = is_stored(config)
    before = store_config(config, folder.experiment_yaml)
    failed = True
    try:
        yield
        failed = not any(finished.values())
    except KeyboardInterrupt:
        failed = False
        raise
    finally:
        if failed and valid and before is not None:
            write_bytes(folder.experiment_yaml, before)


def train_trials(
    prepared: Preparation, folder: ExperimentFolder, processes: Processes, executor: Executor, progress: Progress
) -> dict[str, bool]:
    """Train the trials that are not finished yet and choose each variant's point of the sweep.

    Returns:
        Whether each trial is finished, by its name; the others failed.

    Raises:
        ProjheadsError: If the examples are too few for the batch size, or the batch size for the processes.
    """
    way = choose_states(prepared, folder, processes)
    prepared = with_states(prepared, way)
    config = prepared.config
    for spec in config.heads.variants:
        for warning in head_warnings(new_head(prepared, spec, config.seeds[0])):
            progress.say(f"warning: {spec}: {warning}")
        if reason := own_start(prepared, spec, config.seeds[0]):
            progress.say(f"{spec}: does not share the start of the other heads: {reason}")
    sweeps = plan_sweeps(prepared, folder) if config.sweep.grid else []
    trials = [trial for sweep in sweeps for trial in sweep.expected()] or plan_trials(prepared, folder)
    smallest = min(trial.config.batch_size for trial in trials)
    if smallest < processes.count:
        raise ProjheadsError(
            f"train.batch_size: {smallest} examples cannot be shared by {processes.count} processes; raise it, or "
            "start fewer processes"
        )
    pending = [trial for trial in trials if not trial.finished]
    for trial in pending:
        if damage := trial.damage:
            progress.say(f"{trial.name}: {damage}; training it again")
    processes.wait()
    progress.say(_describe_work(prepared, trials, pending))
    if pending:
        tests = open_test_collections(config)
        for line in known_test_queries(tests, prepared.data):
            progress.say(line)
        for line in describe_training(prepared, pending, tests, way).lines:
            progress.say(line)
    work = _Work(prepared, folder, processes, executor, progress)
    if sweeps:
        work.train_sweeps(sweeps)
    elif pending:
        work.train(pending)
    processes.wait()
    wanted = plan_trials(prepared, folder)
    finished = {trial.name: trial.folder.is_finished for trial in wanted}
    failed = [name for name, trained in finished.items() if not trained]
    if failed:
        progress.say(
            f"{len(failed)} of {len(wanted)} trials failed: {', '.join(failed)}; rerun the same command to retry them"
        )
    return finished


@dataclass(frozen=True)
class _Work:
    """What all trials of an experiment are trained with."""

    prepared: Preparation
    folder: ExperimentFolder
    processes: Processes
    executor: Executor
    progress: Progress

    @cached_property
    def trainer(self) -> Trainer:
        """The trainer; the first use computes or opens the training states."""
        states = open_all_states(self.prepared, self.processes, self.progress)
        return Trainer(self.prepared, states, self.folder, self.processes)

    def train_sweeps(self, sweeps: Sequence[Sweep]) -> None:
        """Train the trials of all sweeps: the grids, what they grow by, and then the seeds that wait for the choice."""
        tried: set[Path] = set()
        while True:
            wanted = [trial for sweep in sweeps for trial in sweep.wanted()]
            pending = [trial for trial in wanted if not trial.finished and trial.folder.path not in tried]
            if not pending:
                break
            self.train(pending, sweeps)
            tried |= {trial.folder.path for trial in pending}
            self.processes.wait()
        records = []
        for sweep in sweeps:
            deleted = sweep.without_model()
            self.processes.wait()
            if deleted:
                self.train(deleted)
            if self.processes.main:
                sweep.delete_losers()
                records.append(sweep.publish())
                self.progress.say(f"{sweep.spec}: {sweep.summary()}")
        warning = saturation_warning(records)
        if warning:
            self.progress.say(f"warning: {warning}")

    def train(self, pending: Sequence[Trial], sweeps: Sequence[Sweep] = ()) -> None:
        """Train the trials; a trial that fails is recorded as failed, and the others still run."""
        main = self.processes.main
        left = Counter(trial.spec.slug for trial in pending)
        with self.progress.step("experiment", sum(trial.steps for trial in pending)) as advance:
            for number, (trial, outcome) in enumerate(self._outcomes(pending, advance), start=1):
                if isinstance(outcome, ProjheadsError):
                    if main:
                        write_failed(self.prepared, trial, str(outcome))
                    outcome = f"FAILED: {outcome}"
                self.progress.say(f"[{number}/{len(pending)}] {trial.name}: {outcome}")
                left[trial.spec.slug] -= 1
                for sweep in sweeps:
                    if main and sweep.spec == trial.spec and not left[trial.spec.slug]:
                        sweep.delete_losers()

    def _outcomes(self, pending: Sequence[Trial], advance: Advance) -> Iterator[tuple[Trial, str | ProjheadsError]]:
        """Train the trials one by one or in lockstep; yield each with its summary, or why it failed."""
        if self.prepared.config.train.states != "lockstep":
            yield from self.executor.map(self.trainer, pending, self.progress, advance)
            return
        groups = lockstep_groups(self.prepared, pending)
        for group, outcome in self.executor.map(LockstepTrainer(self.trainer), groups, self.progress, advance):
            yield from group.outcomes(outcome)


def _describe_work(prepared: Preparation, trials: Sequence[Trial], pending: Sequence[Trial]) -> str:
    config = prepared.config
    steps = _range([trial.steps for trial in trials])
    sizes = _range([trial.config.batch_size for trial in trials])
    counts = Counter(spec for spec, _ in {(trial.spec, trial.seed) for trial in trials})
    points, seeds = config.describe_sweep(max(counts.values())), _range(list(counts.values()))
    return (
        f"{len(trials)} trials ({len(config.heads.variants)} variants x {seeds} seeds{points}) of "
        f"{steps} steps with {sizes} examples in {config.train.precision} on "
        f"{describe_device(prepared.model.device)}; {len(trials) - len(pending)} already finished"
    )


def _range(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"
