"""Trials that train side by side, so that the token states of a step are computed once for all of them.

Every trial keeps its own resume points. After a restart the states are computed from the earliest step that any trial
needs, and the trials that are further ahead wait.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

import torch

from experiment.console.progress import Advance, Progress
from projheads.errors import ProjheadsError
from train.data.examples import order_of
from train.embedding.lockstep import StepsAhead
from train.failures import trial_errors
from train.optimization import count_steps
from train.preparation import Preparation
from train.trainer import Trainer, stage_seed
from train.trial import Trial

__all__ = ["LockstepGroup", "LockstepTrainer", "lockstep_groups"]

MOST = 64
"""Trials that train side by side; each holds a head and the state of its optimiser."""

ONE_AT_A_TIME = ("wandb", "trackio")
"""Trackers that follow one trial of a process at a time."""


@dataclass(frozen=True)
class LockstepGroup:
    """Trials that read the same texts at every step."""

    trials: tuple[Trial, ...]

    @property
    def name(self) -> str:
        """Name of the group, for progress and errors."""
        if len(self.trials) == 1:
            return self.trials[0].name
        return f"{len(self.trials)} trials of seed {self.trials[0].seed}"

    def outcomes(self, outcome: str | ProjheadsError) -> Iterator[tuple[Trial, str | ProjheadsError]]:
        """Yield each trial with its outcome, from that of the group; if the group failed, its unfinished trials did."""
        told = [[None, None]] * len(self.trials) if isinstance(outcome, ProjheadsError) else json.loads(outcome)
        for trial, (summary, error) in zip(self.trials, told, strict=True):
            if error is not None:
                yield trial, ProjheadsError(error)
            elif isinstance(outcome, ProjheadsError):
                yield trial, "finished" if trial.finished else outcome
            else:
                yield trial, summary


def lockstep_groups(prepared: Preparation, pending: Sequence[Trial]) -> list[LockstepGroup]:
    """Group trials by the texts that they read at every step: by seed, and by what the order of the data depends on."""
    groups: dict[object, list[Trial]] = {}
    for trial in pending:
        steps = tuple(
            (one.examples_a_step, count_steps(one, len(data.examples))) for one, data in prepared.stages(trial.config)
        )
        groups.setdefault((trial.seed, steps), []).append(trial)
    most = 1 if set(ONE_AT_A_TIME) & set(prepared.config.train.trackers) else MOST
    return [
        LockstepGroup(tuple(trials[first : first + most]))
        for trials in groups.values()
        for first in range(0, len(trials), most)
    ]


@dataclass(frozen=True)
class LockstepTrainer:
    """Trains groups of trials side by side."""

    trainer: Trainer

    @property
    def device(self) -> torch.device:
        """The device it trains on."""
        return self.trainer.device

    def __call__(self, group: LockstepGroup, /, progress: Progress, advance: Advance) -> str:
        """Train the trials of a group and write their folders.

        Returns:
            The summary of each trial, or why it failed, for ``LockstepGroup.outcomes``.
        """
        outcomes: dict[int, tuple[str | None, str | None]] = {}
        ahead = self._steps_ahead(group)
        with (
            ExitStack() as opened,
            progress.step(group.name, sum(trial.steps for trial in group.trials)) as advance_group,
        ):

            def both(more: float, note: str = "") -> None:
                advance_group(more, note)
                advance(more, note)

            running = {
                place: opened.enter_context(closing(self.trainer.steps(trial, Progress(quiet=True), both)))
                for place, trial in enumerate(group.trials)
            }
            reached = dict.fromkeys(running, -1)
            while running:
                step = min(reached.values()) + 1
                if step:
                    with trial_errors():
                        ahead(step)
                for place in [place for place in running if reached[place] == step - 1]:
                    try:
                        reached[place] = next(running[place])
                        continue
                    except StopIteration as end:
                        outcomes[place] = end.value, None
                    except ProjheadsError as error:
                        outcomes[place] = None, str(error)
                    del running[place], reached[place]
        return json.dumps([outcomes[place] for place in range(len(group.trials))])

    def recipe(self) -> "Callable[[], LockstepTrainer]":
        """Return a picklable function that makes the same trainer in another process."""
        return partial(_lockstep_trainer, self.trainer.recipe())

    def _steps_ahead(self, group: LockstepGroup) -> Callable[[int], None]:
        """Return a function that computes the states of a step, counted through all stages."""
        trial, stages, first = group.trials[0], [], 0
        for number, (config, data) in enumerate(self.trainer.prepared.stages(trial.config)):
            passing = self.trainer.states[number].passing
            if passing is None:
                raise ValueError("the training states are stored")
            steps = count_steps(config, len(data.examples))
            order = order_of(data, config.examples_a_step, steps, stage_seed(trial.seed, number))
            stages.append((first, first + steps, StepsAhead(*passing, data, order, self.device.type)))
            first += steps

        def reach(step: int) -> None:
            for before, last, ahead in stages:
                if before < step <= last:
                    ahead.reach(step - before)

        return reach


def _lockstep_trainer(make: Callable[[], Trainer]) -> LockstepTrainer:
    return LockstepTrainer(make())
