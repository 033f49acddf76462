"""An experiment's training: every variant with every seed, each trial written once."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from experiment.claim import claim_folder
from experiment.config import ExperimentConfig
from experiment.console.progress import Progress
from experiment.disk.layout import ExperimentFolder
from experiment.encoding.device import describe_device
from experiment.executors.local import LocalExecutor
from experiment.executors.protocol import Executor
from projheads import head_warnings
from projheads.errors import ProjheadsError
from train.data.examples import load_training_data
from train.duration import estimate_line
from train.embedding.states import open_states, states_at_hand
from train.processes import Processes, join_processes
from train.setting import Setting, new_head, prepare
from train.sweep import Sweep, list_sweep
from train.trainer import Trainer, Trial, list_trials, write_failed, write_untrained
from train.trial import count_steps

__all__ = ["run_training"]


def run_training(config: ExperimentConfig, executor: Executor | None = None) -> None:
    """Train every trial of an experiment that is not finished yet.

    Args:
        config: The experiment.
        executor: Where the trials are trained; None for this process.

    Raises:
        ProjheadsError: If the data, the backbone or the output folder cannot be used.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with (
        join_processes(config.device) as (processes, device),
        Progress(quiet=not processes.main) as progress,
        claim_folder(config) if processes.main else nullcontext(ExperimentFolder(config.output)) as folder,
    ):
        if processes.count > 1 and executor is not None and not isinstance(executor, LocalExecutor):
            raise ProjheadsError("--executor ray starts its own processes; start the command without a launcher")
        with processes.main_first():
            data = load_training_data(config)
        for line in data.describe(config.train.data):
            progress.say(line)
        setting = prepare(config.model_copy(update={"device": device}), data)
        _train_all(setting, folder, processes, executor or LocalExecutor(), progress)


def _train_all(
    setting: Setting, folder: ExperimentFolder, processes: Processes, executor: Executor, progress: Progress
) -> None:
    """Train the trials that are not finished yet, and keep of a sweep what is best for each variant."""
    config = setting.config
    for spec in config.heads.variants:
        for warning in head_warnings(new_head(setting, spec, config.seeds[0])):
            progress.say(f"warning: {spec}: {warning}")
    if "untrained" in config.eval.references and processes.main:
        write_untrained(setting, folder)
    sweeps = list_sweep(setting, folder) if config.sweep else []
    trials = [trial for sweep in sweeps for trial in sweep.trials] or list_trials(setting, folder)
    smallest = min(trial.settings.batch_size for trial in trials)
    if smallest < processes.count:
        raise ProjheadsError(
            f"train.batch_size: {smallest} examples cannot be shared among {processes.count} processes; raise it, or "
            "start fewer"
        )
    pending = [trial for trial in trials if not trial.finished]
    processes.wait()
    progress.say(_tell(setting, trials, pending, sweeps))
    if pending:
        progress.say(estimate_line(setting, pending, encoded=states_at_hand(setting)))
        _train(setting, pending, sweeps, folder, processes, executor, progress)
    for sweep in sweeps:
        choice = sweep.choose()
        deleted = sweep.without_model(choice)
        processes.wait()
        if deleted:
            _train(setting, deleted, [], folder, processes, executor, progress)
        if processes.main:
            sweep.delete_losers()
            progress.say(f"{sweep.spec}: {sweep.publish(choice, folder)}")


def _train(
    setting: Setting,
    pending: Sequence[Trial],
    sweeps: Sequence[Sweep],
    folder: ExperimentFolder,
    processes: Processes,
    executor: Executor,
    progress: Progress,
) -> None:
    """Train the trials; one whose worker is lost is written as failed, and the others go on."""
    trainer = Trainer(setting, open_states(setting, processes, progress), folder, processes)
    left = Counter(trial.spec.slug for trial in pending)
    steps = sum(count_steps(trial.settings, len(setting.data.examples)) for trial in pending)
    with progress.step("experiment", steps) as advance:
        done = executor.map(trainer, pending, progress, advance)
        for number, (trial, outcome) in enumerate(done, start=1):
            if isinstance(outcome, ProjheadsError):
                if processes.main:
                    write_failed(setting, trial, str(outcome))
                outcome = f"FAILED: {outcome}"
            progress.say(f"[{number}/{len(pending)}] {trial.name}: {outcome}")
            left[trial.spec.slug] -= 1
            for sweep in sweeps:
                if processes.main and sweep.spec == trial.spec and not left[trial.spec.slug]:
                    sweep.delete_losers()


def _tell(setting: Setting, trials: Sequence[Trial], pending: Sequence[Trial], sweeps: Sequence[Sweep]) -> str:
    """Say what there is to train."""
    config = setting.config
    points = f" x {len(sweeps[0].points)} points of the sweep" if sweeps else ""
    steps = sorted({count_steps(trial.settings, len(setting.data.examples)) for trial in trials})
    sizes = sorted({trial.settings.batch_size for trial in trials})
    return (
        f"{len(trials)} trials ({len(config.heads.variants)} variants x {len(config.seeds)} seeds{points}) of "
        f"{_range(steps)} steps with {_range(sizes)} examples in {config.train.precision} on "
        f"{describe_device(setting.model.device)}; {len(trials) - len(pending)} are finished already"
    )


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
