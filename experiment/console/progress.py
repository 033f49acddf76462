"""Progress of a job: bars in a terminal, one line per finished step elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

__all__ = ["Advance", "Progress", "human_time"]


class Advance(Protocol):
    """Advances a progress bar and sets the note after it."""

    def __call__(self, more: float, note: str = "") -> None:
        """Advance the bar by ``more``."""
        ...


class Progress:
    """Reports what a job is doing; without a terminal it prints no bars and no control characters."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True, quiet=quiet)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )

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
    def step(self, what: str, total: float) -> Iterator[Advance]:
        """Show a bar while the block runs; yields the function that advances it."""
        task = self._bars.add_task(what, total=total, note="")

        def advance(more: float, note: str = "") -> None:
            self._bars.update(task, advance=more, note=note)

        try:
            yield advance
        finally:
            self._bars.remove_task(task)


def human_time(seconds: float) -> str:
    """Format a duration: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
