"""Commands that are killed at random moments and run again end with the bytes of commands that were never stopped.

``PROJHEADS_FUZZ`` multiplies the number of kills: ``PROJHEADS_FUZZ=50 python -m pytest tests/test_kills.py``.
"""

import contextlib
import json
import multiprocessing
import os
import random
import re
import time
from pathlib import Path

import pytest

from experiment.collections import Document, write_beir_folder
from projheads.hosts import available_hosts
from tests.fuzz import FACTOR

pytestmark = pytest.mark.skipif(not available_hosts(), reason="no host is installed")

KILLS = FACTOR
"""How often each command is killed."""

NOUNS = ["cat", "dog", "bird", "paris", "france", "rain", "sun", "mat"]
VERBS = ["sat", "run", "walk", "is"]
YAML = """\
output: out
cache: cache
seeds: [0]
device: cpu
model: {{backbone: {backbone}, query_length: 12, document_length: 16}}
heads: {{out_features: 8, variants: [linear, ffn(depth=2)]}}
train: {{data: set, batch_size: 4, validation_pairs: 4, {training}, resume_every: 3}}
sweep: {{}}
eval: {{datasets: [set], storage: [int8]}}
"""
TRAININGS = {
    "all": "trainable: all",
    "head": "trainable: head",
    "lockstep": "trainable: head, states: lockstep",
}
VOLATILE = {
    "timings",
    "peak_memory_bytes",
    "examples_per_s",
    "cost",
    "encode_s",
    "search_s",
    "index_s",
    "seconds",
    "evaluation_time",
}
"""Fields of records that say how long something took."""


def run(folder, package, arguments):
    """Run a command in this process, which is a new one, and end it with the command's exit code."""
    import importlib

    import torch

    from experiment.console.command import run_command

    torch.set_num_threads(1)
    os.chdir(folder)
    with Path("log.txt").open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        main = importlib.import_module(f"{package}.__main__").main
        code = run_command(main, arguments)
    os._exit(code)


@pytest.fixture(scope="module")
def processes():
    """Processes that start with everything imported, and no thread pool."""
    context = multiprocessing.get_context("forkserver")
    hosts = [f"projheads.hosts.{name.replace('-', '_')}" for name in available_hosts()]
    context.set_forkserver_preload(
        ["train.experiment", "eval.evaluate", "eval.report.write", "train.data.mine", *hosts]
    )
    return context


def start(processes, folder, package, *arguments):
    process = processes.Process(target=run, args=(folder, package, arguments))
    process.start()
    return process


def work_in(folder, backbone, training):
    """Make a folder with a collection and an experiment."""
    folder.mkdir()
    words = [(noun, verb) for noun in NOUNS for verb in VERBS]
    corpus = [Document(f"d{i}", noun, f"the {noun} {verb} on a mat") for i, (noun, verb) in enumerate(words)]
    queries = {f"q{i}": f"what {verb} the {noun}" for i, (noun, verb) in enumerate(words)}
    qrels = {f"q{i}": {f"d{i}": 1} for i in range(len(words))}
    write_beir_folder(folder / "set", corpus, queries, {"train": qrels, "test": qrels})
    (folder / "try.yaml").write_text(YAML.format(backbone=backbone, training=TRAININGS[training]))
    return folder


def steady(value):
    if isinstance(value, dict):
        return {key: steady(one) for key, one in value.items() if key not in VOLATILE and not key.endswith("_s")}
    return [steady(one) for one in value] if isinstance(value, list) else value


def contents(folder):
    """Every file outside the report by its path: bytes, or a record without what differs from run to run."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or path.name == ".lock" or name == "log.txt" or name.startswith("cache/"):
            continue
        if "report" in path.parts:
            found[name] = None
        elif path.suffix in (".json", ".jsonl") and "model" not in path.parts:
            found[name] = [steady(json.loads(line)) for line in _records(path)]
        elif path.name == "README.md":  # A model's card quotes the leaderboard, with the time of training.
            found[name] = re.sub(r"\d[\d.]* (s|min)\b", "some s", path.read_text("utf-8"))
        else:
            found[name] = path.read_bytes()
    return found


def _records(path):
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


COMMANDS = [
    ("train", "mine", "--source", "set", "--out", "mined.jsonl", "--negatives", "2"),
    ("train", "try.yaml"),
    ("eval", "try.yaml"),
    ("eval", "report", "out"),
    ("projheads", "fold", "out/trials/linear/seed-0/model", "folded"),
]
MORE_COMMANDS = [
    ("train", "teach", "mined.jsonl", "--model", "{backbone}", "--out", "taught.jsonl"),
    ("answer", "try.yaml", "output=answered"),
    ("eval", "compare", "out", "answered", "--output", "report"),
    ("eval", "export", "out", "--to", "mteb"),
    ("projheads", "swap", "out/trials/linear/seed-0/model", "ffn(depth=3)", "swapped"),
    ("projheads", "export", "out/trials/linear/seed-0/model", "exported", "--to", "stanford"),
]
"""Commands that are killed by ``make fuzz`` only."""


@pytest.mark.parametrize("training", TRAININGS if KILLS > 1 else ["all"])
def test_commands_killed_at_random_end_with_the_same_bytes(processes, backbone, tmp_path, training):
    chance = random.Random(os.environ.get("PROJHEADS_FUZZ_SEED", f"kills {training}"))
    whole, killed = (work_in(tmp_path / name, backbone, training) for name in ("whole", "killed"))
    done = 0
    for command in COMMANDS + (MORE_COMMANDS if KILLS > 1 else []):
        command = [part.format(backbone=backbone) for part in command]
        started = time.monotonic()
        process = start(processes, whole, *command)
        process.join()
        assert process.exitcode == 0, (command, (whole / "log.txt").read_text()[-2000:])
        seconds = time.monotonic() - started
        for _ in range(KILLS):
            process = start(processes, killed, *command)
            process.join(chance.uniform(0, 0.9 * seconds))
            process.kill()
            process.join()
            done += process.exitcode == -9
            if process.exitcode == 0 and command[0] == "projheads":
                break  # A folder that exists is not written again.
        process = start(processes, killed, *command)
        process.join()
        told = (killed / "log.txt").read_text()
        exists = command[-1] in told and "already exists" in told
        assert process.exitcode == 0 or (exists and process.exitcode == 2), (command, told[-2000:])
    assert done
    assert contents(killed) == contents(whole)
    assert not list(killed.rglob(".*.tmp"))
    assert not list(killed.rglob("resume"))
    assert not list((killed / "cache").glob("embeddings/*"))


def of_trials(pattern, at_least):
    """Whether so many files of trials match a pattern."""
    return lambda folder: len(list(folder.glob(f"out/trials/*/{pattern}"))) >= at_least


MOMENTS = [
    of_trials("seed-0/resume/step-*", 1),  # the first variant has a resume point that the second lacks
    of_trials("seed-0/trial.json", 1),  # one trial is finished, and its resume point may still be there
    of_trials("seed-1/resume/step-*", 2),
]


def test_lockstep_killed_at_any_moment_ends_with_the_same_bytes_and_trains_no_finished_trial_again(
    processes, backbone, tmp_path
):
    whole, killed = (work_in(tmp_path / name, backbone, "lockstep") for name in ("whole", "killed"))
    command = ("train", "try.yaml", "sweep={}", "seeds=[0, 1]", "train.epochs=8")
    process = start(processes, whole, *command)
    process.join()
    assert process.exitcode == 0, (whole / "log.txt").read_text()[-2000:]
    finished = {}
    for reached in MOMENTS:
        process = start(processes, killed, *command)
        while process.is_alive() and not reached(killed):
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -9, (killed / "log.txt").read_text()[-2000:]
        finished |= {path: path.stat().st_mtime_ns for path in killed.glob("out/trials/*/*/trial.json")}
    assert finished
    process = start(processes, killed, *command)
    process.join()
    assert process.exitcode == 0, (killed / "log.txt").read_text()[-2000:]
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert contents(killed) == contents(whole)
    assert not list(killed.rglob("resume"))
