"""Progress of parts that run in other processes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from experiment.console.progress import Advance, Progress
from experiment.executors.protocol import Part

__all__ = ["REPORT_S", "RETRIES", "Followed"]

REPORT_S = 0.5
"""Seconds between two reports of a part."""

RETRIES = 3
"""How often a part is retried after its worker was lost."""


@dataclass
class Followed:
    """The progress of every part, as the process that distributes them shows it."""

    parts: Sequence[Part]
    progress: Progress
    advance: Advance
    attempts: dict[int, str] = field(default_factory=dict)
    done: dict[int, float] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)

    def report(self, number: int, attempt: str, done: float, note: str) -> None:
        """Handle a report of a running part; ``attempt`` identifies the attempt."""
        if number in self.ended:
            return
        part = self.parts[number]
        if self.attempts.setdefault(number, attempt) != attempt:
            self.attempts[number] = attempt
            self.progress.say(f"{part.name}: its worker was lost; retrying")
        self.advance(done - self.done.get(number, 0.0), f"{part.name} {note}")
        self.done[number] = done

    def end(self, number: int, done: float | None) -> None:
        """Show the rest of a finished part and ignore its late reports."""
        self.ended.add(number)
        if done is not None:
            self.advance(done - self.done.get(number, 0.0))
