"""Runs the parts of an experiment in several processes of this machine; lost ones are replaced.

Each worker is one process with one pipe. A worker that dies closes its pipe and loses its part only; a worker whose
parent dies ends at once.
"""

import hashlib
import multiprocessing
import os
import platform
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection as pipes
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch

from experiment.console.progress import Advance, Progress
from experiment.executors.followed import REPORT_S, RETRIES, Followed
from experiment.executors.protocol import Item, Worker
from projheads.errors import ProjheadsError, describe_os_error

__all__ = ["PoolExecutor", "pool_executor"]

KEPT = 3
"""Workers that a process keeps ready for later parts: a trainer and evaluators share what they have opened."""


@contextmanager
def pool_executor(count: int) -> "Iterator[PoolExecutor]":
    """Open an executor with so many processes, which start when they are needed and end with the block."""
    executor = PoolExecutor(count)
    try:
        yield executor
    finally:
        executor.close()


@dataclass(frozen=True)
class _Recipe:
    """How to make a worker; equal recipes have one key, so that a process makes the worker once."""

    key: str
    make: Callable[[], Worker[Any]]

    @classmethod
    def of(cls, worker: Worker[Any]) -> "_Recipe":
        make = worker.recipe()
        return cls(hashlib.sha256(ForkingPickler.dumps(make)).hexdigest(), make)


@dataclass
class _Process:
    """A worker process, its pipe, and the number of the part that it is doing."""

    process: SpawnProcess
    pipe: "pipes.Connection"
    part: int | None = None

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.pipe.close()
        if self.part is not None:
            self.process.kill()
        self.process.join()


class PoolExecutor:
    """Runs the parts in ``count`` processes, which share this process's CPU threads."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._processes: list[_Process] = []

    def map(
        self, worker: Worker[Item], parts: Sequence[Item], progress: Progress, advance: Advance
    ) -> Iterator[tuple[Item, str | ProjheadsError]]:
        """See ``Executor``; parts are yielded as they finish."""
        recipe = _Recipe.of(worker)
        waiting, lost = deque(range(len(parts))), [0] * len(parts)
        followed = Followed(parts, progress, advance)
        try:
            while waiting or any(one.part is not None for one in self._processes):
                self._hand_out(recipe, parts, waiting)
                for one in self._ready():
                    number = one.part
                    if number is None:  # died while idle
                        self._remove(one)
                        continue
                    try:
                        kind, *message = one.pipe.recv()
                    except (EOFError, OSError):
                        self._remove(one)
                        lost[number] += 1
                        if lost[number] <= RETRIES:
                            waiting.appendleft(number)
                            continue
                        followed.end(number, None)
                        code = one.process.exitcode
                        yield (
                            parts[number],
                            ProjheadsError(
                                f"its process died {lost[number]} times, last with exit code {code}"
                                + (", as when memory runs out; use fewer --workers" if code == -signal.SIGKILL else "")
                            ),
                        )
                        continue
                    if kind == "report":
                        followed.report(number, str(lost[number]), *message)
                        continue
                    if kind == "bug":
                        raise RuntimeError(f"{parts[number].name} failed in its process:\n{message[0]}")
                    one.part = None
                    outcome, done = message
                    followed.end(number, done)
                    yield parts[number], outcome
        finally:
            for one in [one for one in self._processes if one.part is not None]:
                self._remove(one)

    def close(self) -> None:
        """End all processes."""
        for one in list(self._processes):
            self._remove(one)

    def _hand_out(self, recipe: "_Recipe", parts: Sequence[Any], waiting: "deque[int]") -> None:
        """Give each idle process a part, and start processes while there are more parts than idle ones."""
        idle = [one for one in self._processes if one.part is None]
        while waiting and (idle or len(self._processes) < self._count):
            one = idle.pop() if idle else self._start()
            one.part = waiting.popleft()
            try:
                one.pipe.send((recipe, parts[one.part]))
            except OSError:  # It died; its pipe says so when it is read.
                continue

    def _ready(self) -> list[_Process]:
        """Wait for messages and deaths."""
        ready = pipes.wait([one.pipe for one in self._processes])
        return [one for one in self._processes if one.pipe in ready]

    def _start(self) -> _Process:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        threads = max(1, torch.get_num_threads() // self._count)
        process = context.Process(target=_serve, args=(theirs, threads), daemon=True)
        with _environment({name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}):
            process.start()
        theirs.close()
        one = _Process(process, ours)
        self._processes.append(one)
        return one

    def _remove(self, one: _Process) -> None:
        self._processes.remove(one)
        one.stop()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment, which a process that starts in the block inherits."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: "pipes.Connection", threads: int) -> None:
    """Do parts until the pipe closes, in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # After Ctrl-C the parent ends its workers.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    made: dict[str, Worker[Any]] = {}
    while True:
        try:
            recipe, part = pipe.recv()
        except EOFError:
            return
        report = _Reporter(pipe)
        try:
            pipe.send(("end", _do(made, recipe, part, report), report.done))
        except Exception:
            pipe.send(("bug", traceback.format_exc()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        pipes.wait([parent.sentinel])
        os._exit(1)


def _do(made: dict[str, Worker[Any]], recipe: "_Recipe", part: Any, report: "_Reporter") -> str | ProjheadsError:
    """Do a part; return its summary, or the error if it failed."""
    try:
        if recipe.key not in made:
            while len(made) >= KEPT:
                del made[next(iter(made))]
            made[recipe.key] = recipe.make()
        return made[recipe.key](part, Progress(quiet=True), report)
    except ProjheadsError as error:
        return ProjheadsError(str(error))
    except OSError as error:
        return ProjheadsError(f"{platform.node()}: {describe_os_error(error)}")


class _Reporter:
    """Reports progress from within a worker process to its parent, from time to time."""

    def __init__(self, pipe: "pipes.Connection") -> None:
        self._pipe = pipe
        self._next = 0.0
        self.done = 0.0
        self(0.0)

    def __call__(self, more: float, note: str = "") -> None:
        self.done += more
        if time.monotonic() >= self._next:
            self._pipe.send(("report", self.done, note))
            self._next = time.monotonic() + REPORT_S
