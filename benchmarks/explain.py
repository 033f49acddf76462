"""The cost of ``eval.explain`` for a trial with a frozen backbone, relative to its exact evaluation.

The heads of configs/why.yaml are trained for a few steps with two seeds, so that barriers are measured too, and every
trial is evaluated and then explained, in one process. Both are seconds of processor time, so a busy machine matters
little. The evaluation projects the token states, searches exactly and measures; the backbone's own encoding, which all
trials share, is in neither. Run it with ``python -m benchmarks.explain --output results/explain-cpu.json``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from eval.embed import Encoding
from eval.evaluator import make_evaluator
from eval.explain import Given
from eval.subjects import list_trials
from experiment.collections import open_collection
from experiment.config import ExperimentConfig
from experiment.config.load import load_config
from experiment.console.command import run_command
from experiment.console.progress import Progress
from experiment.disk.files import SCHEMA_VERSION, versions, write_json
from experiment.disk.records import EvaluationRecord
from experiment.encoding.device import describe_device, pick_device, resolve_precision
from train.experiment import train_experiment

__all__ = ["main"]

CONFIG = Path("configs/why.yaml")

REDUCED = [
    "axes={}",
    "seeds=[0,1]",
    "train.max_pairs=400",
    "train.validations=0",
    "eval.storage=[]",
    "eval.searches=[]",
]
"""What is left out of that experiment."""


def main(arguments: Sequence[str]) -> None:
    """Measure on each dataset, and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explain", description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=["pydocs", ".data/scifact"], metavar="DATASET")
    parser.add_argument("--cache", type=Path, default=Path("outputs/.cache/benchmarks"))
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the result")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        places = [f"output={folder}", f"cache={options.cache}", f"eval.datasets=[{', '.join(options.datasets)}]"]
        config = load_config(CONFIG, [*REDUCED, *places])
        train_experiment(config)
        results = _measure(config)
    write_json(
        options.output,
        {
            "schema_version": SCHEMA_VERSION,
            "what": "processor seconds of all diagnostics and of the exact evaluation of each trial, on one thread; "
            "the ratio is the median over trials",
            "command": f"python -m benchmarks.explain {' '.join(arguments)}".rstrip(),
            "device": describe_device(pick_device("cpu")),
            "versions": versions({name: name for name in ("projheads", "torch", "numpy")}),
            "results": results,
        },
    )


def _measure(config: ExperimentConfig) -> list[dict[str, Any]]:
    device = pick_device("cpu")
    precision = resolve_precision(config.eval.precision, device)
    encoding = Encoding(device, precision, config.eval.batch_tokens, config.cache, config.eval.vector_dtype)
    plain = config.eval.model_copy(update={"explain": None})
    found = []
    with Progress(quiet=True) as progress:
        subjects = list_trials(config, print)
        for ref in config.eval.datasets:
            collection = open_collection(ref.source, split=ref.split, cache=config.cache)
            exact = make_evaluator(ref, collection, plain, encoding, progress)
            explainer = make_evaluator(ref, collection, config.eval, encoding, progress).ledger.explainer
            exact.encoder.share_states(subjects[0])
            trials = {}
            for subject in subjects:
                started = time.process_time()
                exact(subject, progress, lambda more, note="": None)
                seconds = time.process_time() - started
                record = EvaluationRecord.read(subject.folder.eval_json(ref.name))
                with exact.encoder.embedded(subject) as stores:
                    given = Given(subject, exact.task, exact.encoder, encoding, *stores, record, progress)
                    started = time.process_time()
                    explainer.write(given, explainer.diagnostics)
                    total = time.process_time() - started
                trials[subject.name] = {"exact_s": seconds, "explain_s": total, "ratio": total / seconds}
                print(f"{ref.name} {subject.name}: {seconds:.2f} s, diagnostics {total:.2f} s, {total / seconds:.2f}x")
            found.append(
                {
                    "dataset": ref.name,
                    "documents": len(exact.task.documents),
                    "queries": len(exact.task.queries),
                    "ratio": statistics.median(one["ratio"] for one in trials.values()),
                    "largest_ratio": max(one["ratio"] for one in trials.values()),
                    "trials": trials,
                }
            )
            print(f"{ref.name}: {found[-1]['ratio']:.2f}x, at most {found[-1]['largest_ratio']:.2f}x")
    return found


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
