"""Parts in several processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from experiment.console.progress import Progress
from experiment.executors.options import add_executor_options, open_executor
from experiment.executors.pool import pool_executor
from projheads.errors import ProjheadsError

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Toy:
    """A part that does what its name says."""

    name: str


@dataclass(frozen=True)
class Player:
    """A worker for toys; ``folder`` notes which deaths have happened."""

    folder: Path
    device = torch.device("cpu")

    def __call__(self, part: Toy, /, progress: Progress, advance: Callable[..., None]) -> str:
        advance(0.5)
        if part.name == "fails":
            raise ProjheadsError("it failed")
        if part.name == "has a bug":
            raise ValueError("a bug")
        if part.name == "cannot write":
            (self.folder / "missing" / "file").write_text("")
        if part.name == "dies" or (part.name == "dies once" and not (self.folder / "died").exists()):
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if part.name == "sleeps":
            (self.folder / f"{os.getpid()}.pid").touch()
            time.sleep(60)
        advance(0.5)
        return f"{part.name} with {torch.get_num_threads()} threads, {os.environ['OMP_NUM_THREADS']} in libraries"

    def recipe(self) -> "Callable[[], Player]":
        return partial(Player, self.folder)


@pytest.fixture(scope="module")
def executor():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    with pool_executor(2) as executor:
        yield executor
    torch.set_num_threads(before)


def do(executor, folder, *names):
    done = []
    outcomes = executor.map(
        Player(folder), [Toy(name) for name in names], Progress(quiet=True), lambda more, note="": done.append(more)
    )
    return {part.name: outcome if isinstance(outcome, str) else repr(outcome) for part, outcome in outcomes}, sum(done)


def test_every_part_has_its_outcome_whatever_happens_to_its_process(executor, tmp_path):
    outcomes, done = do(executor, tmp_path, "a", "fails", "dies once", "cannot write", "dies", "b")
    assert outcomes.keys() == {"a", "fails", "dies once", "cannot write", "dies", "b"}
    assert {outcomes.pop(name) for name in ("a", "b", "dies once")} == {
        f"{name} with 2 threads, 2 in libraries" for name in ("a", "b", "dies once")
    }
    assert outcomes.pop("fails") == "ProjheadsError('it failed')"
    assert "missing/file" in outcomes.pop("cannot write")
    assert "its process died 4 times, last with exit code -9, as when memory runs out" in outcomes.pop("dies")
    assert done == 4  # a part that fails ends after its first half, and of the one that dies nothing was reported


def test_a_bug_is_raised_with_its_traceback_and_the_executor_stays_usable(executor, tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)has a bug failed in its process.*Traceback.*ValueError: a bug"):
        do(executor, tmp_path, "has a bug")
    assert do(executor, tmp_path, "c")[0] == {"c": "c with 2 threads, 2 in libraries"}


def test_the_processes_end_when_the_command_is_killed(tmp_path):
    program = (
        "from pathlib import Path\n"
        "from tests.experiment.executors.test_pool import do\n"
        "from experiment.executors.pool import pool_executor\n"
        "if __name__ == '__main__':\n"
        "    with pool_executor(2) as executor:\n"
        f"        do(executor, Path({str(tmp_path)!r}), 'sleeps', 'sleeps')\n"
    )
    (tmp_path / "program.py").write_text(program)
    command = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    command.kill()
    command.wait()
    numbers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    wait_for(lambda: not any(Path(f"/proc/{number}").exists() for number in numbers))


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "neither auto nor a number from 1 to 256"),
        (["--workers", "many"], "neither auto nor a number from 1 to 256"),
    ],
)
def test_a_number_of_workers_is_checked(arguments, message, capsys):
    import argparse

    parser = argparse.ArgumentParser()
    add_executor_options(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    assert message in capsys.readouterr().err
    with pytest.raises(ProjheadsError, match="--workers is for this machine"):
        open_executor(parser.parse_args(["--workers", "2", "--executor", "ray"]))
