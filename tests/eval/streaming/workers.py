"""Commands that evaluate a miniature experiment in a pass of small chunks, in processes that may be killed."""

import os
import platform
import random
import runpy
import signal
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch

WINDOW = 2
"""Documents of a chunk."""


TOGETHER = ("node-2", "node-3")
"""Hosts that work on their first chunks at the same time."""


def meet(log, host):
    """Wait until all hosts of ``TOGETHER`` are here."""
    Path(f"{log}.{host}").touch()
    while not all(Path(f"{log}.{other}").exists() for other in TOGETHER):
        time.sleep(0.01)


def prepare(conftest, log, seconds=None, host=None, shared_locks=True):
    """Make this process open fake models and note each chunk; it kills itself so long after its first one.

    With ``host`` it believes to run there; without shared locks, nobody on other hosts sees its locks.
    """
    import eval.embed
    import eval.streaming.pass_folder as pass_folder_module
    import eval.streaming.streamed as streamed_module
    import eval.subjects
    import experiment.encoding.windows as windows
    from eval.streaming.corpus_pass import Session

    torch.set_num_threads(1)
    windows.WINDOW = WINDOW
    fake = SimpleNamespace(load=runpy.run_path(conftest)["load_fake"])
    eval.embed.load_host = eval.subjects.load_host = lambda name: fake
    if host is not None:
        platform.node = lambda: host
    if not shared_locks:
        real_locked = pass_folder_module.locked
        for module in (streamed_module, pass_folder_module):
            module.locked = lambda file, *, wait=True: real_locked(file.with_name(f"{host}-{file.name}"), wait=wait)
    real = Session.work

    def work(session, number, advance):
        if shared_locks and number in session.corpus.folder.finished():
            raise RuntimeError(f"chunk {number} is done again")
        if host in TOGETHER:
            meet(log, host)
        time.sleep(0.03)
        summary = real(session, number, advance)
        with Path(log).open("a") as file:
            file.write(f"{number}\n")
        if seconds is not None:
            threading.Timer(seconds, kill).start()
        return summary

    def kill():
        Path(f"{log}.killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    Session.work = work


def command(conftest, yaml, log, count=1, host=None, shared_locks=True):
    """Evaluate with one process, with several, or with ``ray``, perhaps on a host of some name."""
    from eval.evaluate import evaluate_experiment
    from eval.streaming.corpus_pass import CorpusPass
    from experiment.config.load import load_config
    from experiment.console.progress import Progress
    from experiment.executors.local import LocalExecutor
    from experiment.executors.pool import pool_executor

    prepare(conftest, log, None, host, shared_locks)
    config = load_config(Path(yaml), ["eval.corpus=streamed"])
    if count == 1:
        evaluate_experiment(config, Progress(quiet=True), LocalExecutor())
        os._exit(0)
    recipe, chance = CorpusPass.recipe, random.Random(0)

    def mortal(corpus):
        return partial(open_prepared, conftest, log, chance.uniform(0, 0.06), recipe(corpus))

    CorpusPass.recipe = mortal
    from experiment.executors.ray_cluster import ray_executor

    with ray_executor(None) if count == "ray" else pool_executor(count) as executor:
        evaluate_experiment(config, Progress(quiet=True), executor)


def open_prepared(conftest, log, seconds, make):
    """Make a worker in a process of a pool; the first that does so kills itself soon."""
    try:
        os.close(os.open(f"{log}.dying", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        seconds = None
    prepare(conftest, log, seconds)
    return make()
