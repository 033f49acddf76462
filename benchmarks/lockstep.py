"""Training in lockstep against training on stored token states: the same variants and seeds, both ways.

``python -m benchmarks.lockstep --output results/lockstep-cpu.json`` trains every number of seeds both ways, in turns,
each time in a separate process with an empty cache. It writes time, CPU time, private memory and the disk of the token
states, the ratios of lockstep to stored, and how what a dry run says compares with what was measured. Lockstep must end
with the same weights every time.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.eval_data import BACKBONE, in_child, resident
from experiment.config import ExperimentConfig
from experiment.config.load import load_config
from experiment.console.command import run_command
from experiment.console.progress import Progress
from experiment.disk.files import SCHEMA_VERSION, sha256_json, versions, write_json
from experiment.disk.layout import ExperimentFolder
from experiment.encoding.device import describe_device, pick_device
from experiment.executors.local import LocalExecutor
from train.data.examples import load_training_data
from train.embedding.way import choose_states, with_states
from train.experiment import train_trials
from train.preparation import Preparation, prepare
from train.processes import Processes
from train.training_work import TrainingWork
from train.trial import plan_trials

__all__ = ["main"]

HEADS = ("linear", "ffn(activation=gelu)", "upscaled(residual=true)")
WAYS = ("stored", "lockstep")
MEASURED = ("train_s", "cpu_s", "memory_bytes", "disk_bytes")


def main(arguments: Sequence[str]) -> None:
    """Train every number of seeds both ways and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lockstep", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the result")
    parser.add_argument("--data", default=".data/squad", help="a collection (default: .data/squad)")
    parser.add_argument("--test-split", default="dev", help="a split that is not trained on (default: dev)")
    parser.add_argument("--backbone", default=BACKBONE, help=f"a folder or a hub name (default: {BACKBONE})")
    parser.add_argument("--pairs", type=int, default=800, help="training pairs (default: 800)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 3], help="numbers of seeds (default: 1 3)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured (default: 1)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    results = []
    for seeds in options.seeds:
        results.append(_compare(options, seeds))
        ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in results[-1]["lockstep_to_stored"].items())
        print(f"{seeds} seeds, lockstep to stored: {ratios}", flush=True)
    write_json(
        options.output,
        {
            "schema_version": SCHEMA_VERSION,
            "what": "training in lockstep against stored token states, in turns, each in a separate process",
            "command": f"python -m benchmarks.lockstep {' '.join(arguments)}",
            "device": describe_device(pick_device(options.device)),
            "threads": options.threads,
            "load": os.getloadavg()[0],
            "versions": versions({name: name for name in ("torch", "transformers", "sentence-transformers", "pylate")}),
            "data": Path(options.data).name,
            "pairs": options.pairs,
            "heads": list(HEADS),
            "results": results,
        },
    )


def _compare(options: argparse.Namespace, seeds: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, rows in runs.items():
            row = in_child(_train, options, seeds, way)
            rows.append({**row, "memory_bytes": row["start_bytes"] + row["anonymous_bytes"]})
            print(f"{seeds} seeds, {way}: {rows[-1]}", flush=True)
    if len({row["weights"] for row in runs["lockstep"]}) > 1:
        raise AssertionError("lockstep ended with different weights")
    median = {
        way: {name: statistics.median(row[name] for row in rows) for name in MEASURED} for way, rows in runs.items()
    }
    predicted = {way: rows[0]["predicted"] for way, rows in runs.items()}
    return {
        "seeds": seeds,
        **median,
        "lockstep_to_stored": {name: median["lockstep"][name] / median["stored"][name] for name in MEASURED},
        "predicted": predicted,
        "predicted_by_measured": {
            way: {name: value / median[way][name] for name, value in said.items()} for way, said in predicted.items()
        },
        "validation_ndcg": {way: rows[0]["validation_ndcg"] for way, rows in runs.items()},
    }


def _train(options: argparse.Namespace, seeds: int, way: str) -> dict[str, Any]:
    """Train in this process, after a prediction; return what the training took once it began."""
    torch.set_num_threads(options.threads)
    start = resident("RssAnon")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = _config(options, folder, seeds, way)
        prepared, experiment = prepare(config, load_training_data(config)), ExperimentFolder(config.output)
        predicted = _predict(prepared, experiment)
        watch = _Watch(quiet=True)
        trained = train_trials(prepared, experiment, Processes(), LocalExecutor(), watch)
        measured = {"train_s": time.perf_counter() - watch.began, "cpu_s": time.process_time() - watch.cpu}
        if not all(trained.values()):
            raise AssertionError(f"trials failed: {trained}")
        records = [trial.read_trial() for trial in experiment.trials()]
        validations = [record.validation for record in records if record is not None and record.validation]
        return {
            **measured,
            "disk_bytes": sum(file.stat().st_size for file in config.cache.glob("states/*/*")),
            "start_bytes": start,
            "predicted": predicted,
            "weights": sha256_json([record.weights_hash for record in records if record is not None]),
            "validation_ndcg": statistics.mean(found["nDCG@10"] for found in validations),
        }


def _config(options: argparse.Namespace, folder: Path, seeds: int, way: str) -> ExperimentConfig:
    values = {
        "output": str(folder / "out"),
        "cache": str(folder / "cache"),
        "seeds": list(range(seeds)),
        "device": options.device,
        "threads": options.threads,
        "model": {"backbone": options.backbone},
        "heads": {"variants": list(HEADS), "baseline": HEADS[0]},
        "train": {"data": options.data, "max_pairs": options.pairs, "states": way},
        "sweep": {},
        "eval": {"datasets": [{"source": options.data, "split": options.test_split}], "references": []},
    }
    write_json(folder / "try.yaml", values)
    return load_config(folder / "try.yaml")


def _predict(prepared: Preparation, folder: ExperimentFolder) -> dict[str, float]:
    """Return what a dry run says of the configured way."""
    way = choose_states(prepared, folder, Processes())
    if way is None:
        raise AssertionError("the backbone is not frozen")
    prepared = with_states(prepared, way)
    work = TrainingWork(prepared, plan_trials(prepared, folder))
    stored = way.states == "stored"
    said = work.stored(way.stored_bytes, cached=False) if stored else work.lockstep(way.kept_bytes)
    return {"train_s": said.seconds_on(1), "memory_bytes": said.need.memory, "disk_bytes": said.need.disk}


class _Watch(Progress):
    """Notes when the training begins: after the last line about what it takes."""

    began = cpu = 0.0

    def say(self, line: str) -> None:
        """See ``Progress``."""
        super().say(line)
        if line.startswith("this will take"):
            self.began, self.cpu = time.perf_counter(), time.process_time()


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
