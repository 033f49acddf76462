"""What a person sees while an experiment trains: bars in a terminal, one line a step elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from experiment.estimate import human_time

__all__ = ["Progress"]


class _Outcome(Protocol):
    """What is told of a finished trial; see ``train.trial.TrialRecord``."""

    loss: float
    validation: dict[str, float] | None
    seconds: float
    examples_per_s: float


class Progress:
    """Tells what an experiment's training does.

    In a terminal it draws a bar for the step at hand and one for the experiment; elsewhere each finished thing is one
    line, without control characters.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._experiment: TaskID | None = None
        self._done = 0
        self._total = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        """Print one line above the bars."""
        self._console.print(line, markup=False)

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar over ``total`` things; the block gets a function that is told how many more are done."""
        started = time.perf_counter()
        task = self._bars.add_task(what, total=total, note="")
        counted = 0

        def advance(more: int) -> None:
            nonlocal counted
            counted += more
            self._bars.update(task, advance=more)

        yield advance
        self._bars.remove_task(task)
        if counted:
            self.say(f"{what}: {human_time(time.perf_counter() - started)}")

    def begin_trials(self, total: int, steps: int) -> None:
        """Show the bar of the experiment: ``total`` trials of ``steps`` steps each."""
        self._total = total
        self._experiment = self._bars.add_task("experiment", total=total * steps, note="")

    @contextmanager
    def trial(self, name: str, steps: int) -> Iterator[Callable[[int, float], None]]:
        """Show the bar of one trial; the block gets a function for ``train_trial``'s ``on_step``."""
        task = self._bars.add_task(name, total=steps, note="")

        def on_step(step: int, loss: float) -> None:
            self._bars.update(task, completed=step, note=f"loss {loss:.3f}")
            if self._experiment is not None:
                self._bars.update(self._experiment, completed=self._done * steps + step)

        yield on_step
        self._bars.remove_task(task)
        self._done += 1
        if self._experiment is not None:
            self._bars.update(self._experiment, completed=self._done * steps)

    def trial_done(self, name: str, record: _Outcome, failure: str | None) -> None:
        """Print the line of a trial that is over."""
        count = f"[{self._done}/{self._total}]"
        if failure is not None:
            self.say(f"{count} {name}: FAILED: {failure}")
            return
        held_out = ""
        if record.validation:
            held_out = f", held-out loss {record.validation['loss']:.3f} accuracy {record.validation['accuracy']:.3f}"
        self.say(
            f"{count} {name}: loss {record.loss:.3f}{held_out}, "
            f"{record.seconds:.1f} s, {record.examples_per_s:.0f} pairs/s"
        )
