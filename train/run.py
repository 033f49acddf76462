"""An experiment's training: every variant with every seed, each trial written once."""

from collections import Counter
from collections.abc import Sequence

import torch

from experiment.claim import claim_folder
from experiment.config import ExperimentConfig
from experiment.device import describe_device, pick_device
from experiment.executor import Executor, LocalExecutor
from experiment.folder import ExperimentFolder
from experiment.progress import Progress
from projheads import head_warnings
from projheads.errors import ProjheadsError
from train.data import load_training_data
from train.estimate import estimate_line
from train.setting import Setting, new_head, prepare
from train.states import open_states, states_at_hand
from train.sweep import Sweep, list_sweep
from train.trial import count_steps
from train.trials import Trainer, Trial, list_trials, write_failed, write_untrained

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
    with claim_folder(config) as folder, Progress() as progress:
        data = load_training_data(config)
        for line in data.describe(config.train.data):
            progress.say(line)
        setting = prepare(config, data, pick_device(config.device))
        config = setting.config
        for spec in config.heads.variants:
            for warning in head_warnings(new_head(setting, spec, config.seeds[0])):
                progress.say(f"warning: {spec}: {warning}")
        if "untrained" in config.eval.references:
            write_untrained(setting, folder)
        sweeps = list_sweep(setting, folder) if config.sweep else []
        trials = [trial for sweep in sweeps for trial in sweep.trials] or list_trials(setting, folder)
        pending = [trial for trial in trials if not trial.finished]
        progress.say(_tell(setting, trials, pending, sweeps))
        if pending:
            progress.say(estimate_line(setting, pending, encoded=states_at_hand(setting)))
            _train(setting, pending, sweeps, folder, executor or LocalExecutor(), progress)
        for sweep in sweeps:
            choice = sweep.choose()
            deleted = sweep.without_model(choice)
            if deleted:
                _train(setting, deleted, [], folder, executor or LocalExecutor(), progress)
            sweep.delete_losers()
            progress.say(f"{sweep.spec}: {sweep.publish(choice, folder)}")


def _train(
    setting: Setting,
    pending: Sequence[Trial],
    sweeps: Sequence[Sweep],
    folder: ExperimentFolder,
    executor: Executor,
    progress: Progress,
) -> None:
    """Train the trials; one that fails is written as failed, with its reason, and the others go on."""
    frozen = open_states(setting, progress) if setting.config.train.trainable == "head" else None
    trainer = Trainer(setting, folder, frozen)
    left = Counter(trial.spec.slug for trial in pending)
    steps = sum(count_steps(trial.settings, len(setting.data.pairs)) for trial in pending)
    with progress.step("experiment", steps) as advance:
        done = executor.map(trainer, pending, progress, advance)
        for number, (trial, outcome) in enumerate(done, start=1):
            if isinstance(outcome, ProjheadsError):
                write_failed(setting, trial, str(outcome))
                outcome = f"FAILED: {outcome}"
            progress.say(f"[{number}/{len(pending)}] {trial.name}: {outcome}")
            left[trial.spec.slug] -= 1
            for sweep in sweeps:
                if sweep.spec == trial.spec and not left[trial.spec.slug]:
                    sweep.delete_losers()


def _tell(setting: Setting, trials: Sequence[Trial], pending: Sequence[Trial], sweeps: Sequence[Sweep]) -> str:
    """Say what there is to train."""
    config = setting.config
    points = f" x {len(sweeps[0].points)} points of the sweep" if sweeps else ""
    steps = sorted({count_steps(trial.settings, len(setting.data.pairs)) for trial in trials})
    sizes = sorted({trial.settings.batch_size for trial in trials})
    return (
        f"{len(trials)} trials ({len(config.heads.variants)} variants x {len(config.seeds)} seeds{points}) of "
        f"{_range(steps)} steps with {_range(sizes)} pairs in {config.train.precision} on "
        f"{describe_device(setting.model.device)}; {len(trials) - len(pending)} are finished already"
    )


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
