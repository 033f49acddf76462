"""What a job takes by each way of doing it, and how a dry run says so."""

from collections.abc import Callable
from dataclasses import dataclass

from experiment.console.progress import human_time
from experiment.disk.room import bytes_text

__all__ = ["Backbone", "Need", "describe_times", "describe_ways", "process_bytes"]

PROCESS_BYTES = 750 * 10**6
"""Memory of a process with torch, a host and a small backbone, which encodes batch by batch."""

BYTES_PER_THREAD = 100 * 10**6
"""Memory of another thread that encodes batches, whose freed blocks the allocator keeps: measured with MiniLM."""

MACHINES = 8
"""For how many machines a time is stated besides one."""


@dataclass(frozen=True)
class Backbone:
    """What encoding takes.

    Attributes:
        parameters: Parameters that every token is multiplied with: all but the embedding tables.
        layers: Number of layers.
        width: Width of a token state.
    """

    parameters: float
    layers: int
    width: int

    def flop(self, tokens: float, length: float) -> float:
        """Return the floating-point operations for so many tokens in texts of a length, attention included."""
        return tokens * (2 * self.parameters + 4 * self.layers * self.width * length)


@dataclass(frozen=True)
class Need:
    """What a job takes.

    Attributes:
        disk: Bytes on disk at its largest.
        memory: Bytes of memory of a process.
        flop: Floating-point operations.
        shared: Those that one worker does for all: the token states of a frozen backbone are stored by one.
    """

    disk: float
    memory: float
    flop: float
    shared: float = 0.0

    def __str__(self) -> str:
        """Name the disk and the memory."""
        return f"{bytes_text(self.disk)} of disk, {bytes_text(self.memory)} of memory"

    def hours(self, flop_per_s: float, workers: int = 1) -> float:
        """Return the hours that this takes on a number of workers of a given speed."""
        return (self.shared + (self.flop - self.shared) / workers) / flop_per_s / 3600


def process_bytes(threads: int = 1) -> float:
    """Return the memory of a process that encodes with a number of threads, before what it reads, keeps and trains."""
    return float(PROCESS_BYTES + BYTES_PER_THREAD * (threads - 1))


def describe_ways(chosen: tuple[str, Need], reason: str, other: tuple[str, Need]) -> str:
    """Name the way that was chosen, and why, with what both ways take."""
    return f"{chosen[0]}: {chosen[1]} ({reason}; {other[0]}: {other[1]})"


def describe_times(seconds_on: Callable[[int], float]) -> str:
    """Say how long something takes on one machine like this, and on several."""
    return f"{human_time(seconds_on(1))}, on {MACHINES} such machines {human_time(seconds_on(MACHINES))}"
