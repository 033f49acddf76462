"""Runs the parts of an experiment as tasks on a Ray cluster; lost workers are replaced.

The machines share the working directory of the command, which holds the code, the output folder and the cache.
"""

import os
import platform
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiment.console.command import READ_AT_IMPORT
from experiment.console.progress import Advance, Progress
from experiment.executors.followed import REPORT_S, RETRIES, Followed
from experiment.executors.protocol import Item, Worker
from projheads.errors import ProjheadsError, describe_os_error

__all__ = ["RayExecutor", "check_resources", "ray_executor"]

CANCEL_S = 5.0
"""Seconds to wait for cancelled tasks."""

OBJECTS = 128 * 2**20
"""Bytes of a local cluster's object store; nothing large passes through it."""

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def ray_executor(address: str | None) -> "Iterator[RayExecutor]":
    """Connect to a Ray cluster, or start one with this machine's cores and GPUs while the block runs.

    Args:
        address: The cluster's address; None uses the variable ``RAY_ADDRESS`` if it is set, or starts a local one.

    Raises:
        ProjheadsError: If Ray is not installed, or no cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ProjheadsError("--executor ray: Ray is not installed; pip install --group ray") from None
    path = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    # A worker loads torch before any of our code runs there.
    read = {name: os.environ[name] for name in READ_AT_IMPORT if name in os.environ}
    here = address is None and "RAY_ADDRESS" not in os.environ
    started = {"include_dashboard": False, "object_store_memory": OBJECTS} if here else {}
    try:
        ray.init(
            address="local" if here else address,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([str(ROOT), *path]), **read}},
            log_to_driver=False,
            logging_level="ERROR",
            **started,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ProjheadsError(
            f"--executor ray: cannot use a Ray cluster at {address or 'this machine'} ({reason})"
        ) from None
    try:
        yield RayExecutor()
    finally:
        ray.shutdown()


class RayExecutor:
    """Runs every part as a task of the cluster that this process is connected to."""

    def map(
        self, worker: Worker[Item], parts: Sequence[Item], progress: Progress, advance: Advance
    ) -> Iterator[tuple[Item, str | ProjheadsError]]:
        """See ``Executor``; parts are yielded as they finish.

        A task has as many CPU threads as this process, because their number can change the last bits of a result, and
        one GPU if this process computes on one.

        Raises:
            ProjheadsError: If no machine of the cluster has these resources.
        """
        import ray

        threads, gpus = torch.get_num_threads(), int(worker.device.type == "cuda")
        check_resources(ray.nodes(), threads, gpus)
        driver = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        reports = ray.remote(_Reports).options(num_cpus=0, scheduling_strategy=driver).remote()
        about = ray.put(_About(uuid.uuid4().hex, worker.recipe(), Path.cwd(), threads))
        task = ray.remote(_do).options(num_cpus=threads, num_gpus=gpus, max_retries=RETRIES)
        pending = {task.remote(about, part, number, reports): number for number, part in enumerate(parts)}
        followed = Followed(parts, progress, advance)
        try:
            while pending:
                finished, _ = ray.wait(list(pending), timeout=REPORT_S)
                for report in ray.get(reports.take.remote()):
                    followed.report(*report)
                for reference in finished:
                    number = pending.pop(reference)
                    outcome, done = _outcome(reference)
                    followed.end(number, done)
                    yield parts[number], outcome
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)
            if pending:
                ray.wait(list(pending), num_returns=len(pending), timeout=CANCEL_S)


def check_resources(nodes: Sequence[Any], threads: int, gpus: int) -> None:
    """Check that a part fits on some machine; otherwise Ray would wait forever.

    Args:
        nodes: The machines of the cluster, as ``ray.nodes`` returns them.
        threads: CPU threads per part.
        gpus: GPUs per part.

    Raises:
        ProjheadsError: If no machine has these resources.
    """
    for node in nodes:
        there = node["Resources"]
        if node["Alive"] and there.get("CPU", 0) >= threads and there.get("GPU", 0) >= gpus:
            return
    raise ProjheadsError(
        f"--executor ray: no machine of the cluster has the {threads} CPU threads and {gpus} GPUs that a part needs; "
        "lower `threads`, or start a cluster with more"
    )


@dataclass(frozen=True)
class _About:
    """What all tasks of a map share: its name, how to make a worker, the working directory, and the CPU threads."""

    name: str
    recipe: Callable[[], Worker[Any]]
    folder: Path
    threads: int


class _Reports:
    """The actor that collects the reports of tasks until the driver takes them."""

    def __init__(self) -> None:
        self._new: list[tuple[int, str, float, str]] = []

    def add(self, number: int, attempt: str, done: float, note: str) -> None:
        self._new.append((number, attempt, done, note))

    def take(self) -> list[tuple[int, str, float, str]]:
        new, self._new = self._new, []
        return new


class _Reporter:
    """Reports progress from within a task to the driver, from time to time."""

    def __init__(self, number: int, reports: Any) -> None:
        self._number = number
        self._reports = reports
        self._attempt = uuid.uuid4().hex
        self._next = 0.0
        self.done = 0.0
        self(0.0)

    def __call__(self, more: float, note: str = "") -> None:
        self.done += more
        if time.monotonic() >= self._next:
            self._reports.add.remote(self._number, self._attempt, self.done, note)
            self._next = time.monotonic() + REPORT_S


_workers: dict[str, Worker[Any]] = {}
"""In a worker process: the worker of the current map, by the map's name."""


def _do(about: _About, part: Any, number: int, reports: Any) -> tuple[str | None, str, float]:
    """Run a part in a task; return its summary or None, the reason if it failed, and its share of the progress."""
    os.chdir(about.folder)
    torch.set_num_threads(about.threads)
    reporter = _Reporter(number, reports)
    try:
        if about.name not in _workers:
            _workers.clear()
            _workers[about.name] = about.recipe()
        summary = _workers[about.name](part, Progress(quiet=True), reporter)
    except ProjheadsError as error:
        return None, str(error), reporter.done
    except OSError as error:
        return None, f"{platform.node()}: {describe_os_error(error)}", reporter.done
    return summary, "", reporter.done


def _outcome(reference: Any) -> tuple[str | ProjheadsError, float | None]:
    """Return the outcome of a finished task and its share of the progress."""
    import ray

    try:
        summary, reason, done = ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        return ProjheadsError(f"its worker was lost {RETRIES + 1} times ({type(error).__name__})"), None
    return (ProjheadsError(reason) if summary is None else summary), done
