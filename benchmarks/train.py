"""Full training of a ColBERT model: our trainer against the installed host's trainer, on the same batches.

Both train the same model from the same weights on the same data order, without dropout, at a constant learning rate, so
their losses must agree; the result records and plots them. Each measurement runs in a separate process, so that peak
memory is measured separately, and the two trainers take turns. Run it with
``python -m benchmarks.train --data .data/squad --data .data/clef2020_checkthat_t2 --output results/train-cpu.json``,
once in an environment with PyLate and once in one with sentence-transformers >= 6.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import train.batch
from experiment.collections import open_collection, training_pairs
from experiment.config import OptimizerConfig, TrainConfig
from experiment.disk.files import SCHEMA_VERSION, versions, write_json
from experiment.encoding.device import describe_device, peak_memory, pick_device, reset_peak_memory
from experiment.seeds import numpy_generator, torch_generator
from projheads import build_head
from projheads.errors import ProjheadsError
from projheads.hosts import load_host
from projheads.hosts.base import EncodingSettings, HostModel
from projheads.scoring import maxsim
from train.data.examples import TrainingData, order_of
from train.embedding.embedders import LiveEmbedder
from train.embedding.tokenised import tokenise_once
from train.training import train_trial

__all__ = ["main"]

WARM_UP = 2
"""Initial steps that are not counted."""

PARTS = ("tokenise", "forward", "loss", "backward", "optimizer")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both trainers on every collection and batch size and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument(
        "--data", action="append", required=True, help="a collection with training judgements; may be repeated"
    )
    parser.add_argument(
        "--batch", type=int, action="append", help="pairs per step (default: 32 and 128); may be repeated"
    )
    parser.add_argument("--steps", type=int, default=8, help="counted steps per measurement")
    parser.add_argument("--rounds", type=int, default=2, help="alternating measurements per trainer")
    parser.add_argument("--backbone", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--document-length", type=int, default=180)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile the model in our trainer")
    parser.add_argument("--unfused", action="store_true", help="disable fused MaxSim kernels in our trainer")
    parser.add_argument("--mini-batch", type=int, help="GradCache mini-batch size for our trainer, in texts")
    parser.add_argument("--output", type=Path, help="JSON file for the result; the plot goes next to it")
    parser.add_argument("--measure", choices=("ours", "host", "parts"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(_measure(options)))
        return
    if options.output is None:
        parser.error("the following arguments are required: --output")
    results = []
    for data in options.data:
        for batch in options.batch or [32, 128]:
            results.append(_compare(options, data, batch))
            print(_line(results[-1]), flush=True)
    device = pick_device(options.device)
    write_json(
        options.output,
        {
            "schema_version": SCHEMA_VERSION,
            "what": "full training, our trainer and the host's taking turns, each measurement in a separate process",
            "command": "python -m benchmarks.train " + " ".join(arguments or sys.argv[1:]),
            "device": describe_device(device),
            "versions": versions({name: name for name in ("torch", "transformers", "sentence-transformers", "pylate")}),
            "results": results,
        },
    )
    _draw(results, options.output.with_suffix(".png"))


def _compare(options: argparse.Namespace, data: str, batch: int) -> dict[str, Any]:
    """Measure both trainers, alternating between them."""
    measured: dict[str, list[dict[str, Any]]] = {"ours": [], "host": []}
    for _ in range(options.rounds):
        for name, runs in measured.items():
            runs.append(_in_a_process(options, data, batch, name))
    best = {name: max(runs, key=lambda run: run["examples_per_s"]) for name, runs in measured.items()}
    return {
        "data": Path(data).name,
        "batch": batch,
        "document_length": options.document_length,
        "precision": options.precision,
        "host": best["host"]["trainer"],
        "examples_per_s": {name: [run["examples_per_s"] for run in runs] for name, runs in measured.items()},
        "speed_ratio": statistics.median(
            ours["examples_per_s"] / host["examples_per_s"]
            for ours, host in zip(measured["ours"], measured["host"], strict=True)
        ),
        "peak_memory_bytes": {name: run["peak_memory_bytes"] for name, run in best.items()},
        "memory_of_training_bytes": {name: run["memory_of_training_bytes"] for name, run in best.items()},
        "memory_ratio": best["ours"]["peak_memory_bytes"] / best["host"]["peak_memory_bytes"],
        "share_of_bare_products": best["ours"]["share_of_bare_products"],
        "losses": {name: run["losses"] for name, run in best.items()},
        "largest_difference_of_losses": max(
            abs(a - b) for a, b in zip(best["ours"]["losses"], best["host"]["losses"], strict=True)
        ),
        "share_of_a_step": _in_a_process(options, data, batch, "parts")["parts"],
    }


def _in_a_process(options: argparse.Namespace, data: str, batch: int, what: str) -> dict[str, Any]:
    given = vars(options) | {"data": [data], "batch": [batch], "measure": what}
    command = [sys.executable, "-m", "benchmarks.train"]
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            command.append(flag)
        elif value not in (None, False) and name not in ("output", "rounds"):
            command += [flag, str(value[0] if isinstance(value, list) else value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProjheadsError(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train for a few steps in this process."""
    device, batch = pick_device(options.device), options.batch[0]
    count = (options.steps + WARM_UP) * batch
    queries, documents = _pairs(options.data[0], count)
    head = build_head("linear", 384, 128, generator=torch_generator(0, "initialisation"))
    host = load_host("auto")
    if (width := host.backbone_width(options.backbone)) != head.in_features:
        head = build_head("linear", width, 128, generator=torch_generator(0, "initialisation"))
    settings = EncodingSettings(document_length=options.document_length)
    model = host.create(options.backbone, head, settings, device=str(device))
    for module in model.native.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    reset_peak_memory(device)
    before = peak_memory(device)
    measure = {"ours": _train_ours, "host": _train_with_host, "parts": _parts}[options.measure]
    result = measure(options, model, queries, documents)
    peak = peak_memory(device)
    return result | {"peak_memory_bytes": peak, "memory_of_training_bytes": peak - before}


def _pairs(source: str, count: int) -> tuple[list[str], list[str]]:
    """Draw pairs with distinct queries and documents, in training order."""
    collection = open_collection(source, split="train", cache=Path("outputs/.cache"))
    seen: set[str] = set()
    chosen = []
    named = training_pairs(collection)
    for place in numpy_generator(0, "benchmark").permutation(len(named)):
        query, document = named[place]
        texts = {collection.queries[query], collection.corpus[document].passage}
        if len(texts) == 2 and not texts & seen:
            seen |= texts
            chosen.append((collection.queries[query], collection.corpus[document].passage))
    if not chosen:
        raise ProjheadsError(f"{source}: no training pairs")
    chosen = [chosen[place % len(chosen)] for place in range(count)]
    return [query for query, _ in chosen], [document for _, document in chosen]


def _train_ours(
    options: argparse.Namespace,
    model: HostModel,
    queries: list[str],
    documents: list[str],
    on_step: Callable[[int], None] = lambda step: None,
) -> dict[str, Any]:
    batch = options.batch[0]
    settings = TrainConfig(
        data=options.data[0],
        trainable="all",
        batch_size=batch,
        mini_batch_size=options.mini_batch,
        compile=options.compile,
        optimizer=OptimizerConfig(head_lr=3e-5, backbone_lr=3e-5),
        schedule="constant",
        warmup_ratio=0.0,
        precision=options.precision,
        validations=0,
    )
    count = len(queries)
    # The trial shuffles the pairs: arrange them so that the shuffled order is that of the list.
    order = np.concatenate(list(order_of(_data(queries, documents, np.arange(count)), batch, count // batch, 0)))
    places = np.empty(count, np.int64)
    places[order] = np.arange(count)
    data = _data(queries, documents, places)
    started = time.perf_counter()
    embed = LiveEmbedder(
        model, tokenise_once(model, queries, is_query=True), tokenise_once(model, documents, is_query=False)
    )
    tokenised = time.perf_counter() - started
    if options.unfused:
        setattr(train.batch, "maxsim", partial(maxsim, backend="blocked"))  # noqa: B010
    if options.compile:
        next(iter(model.native.children())).compile(dynamic=True)
        model.head.compile(dynamic=True)
    stamps: list[float] = []

    def stamp(step: int, record: object) -> None:
        stamps.append(time.perf_counter())
        on_step(step)

    record = train_trial(settings, model.head, model, embed, data, 0, on_step=stamp)
    # Tokenisation is done once in advance: add the counted steps' share of its time.
    seconds = stamps[-1] - stamps[WARM_UP] + tokenised * options.steps / (options.steps + WARM_UP)
    return {
        "trainer": "projheads",
        "examples_per_s": options.steps * batch / seconds,
        "losses": record.losses,
        "tokenise_s": tokenised,
        "share_of_bare_products": _multiply_adds(model, embed, options.steps / (options.steps + WARM_UP))
        / seconds
        / _bare_products(options),
    }


def _multiply_adds(model: HostModel, embed: LiveEmbedder, counted: float) -> float:
    """Count the matrices' multiply-adds in the counted share of the steps, without attention and MaxSim."""
    inner = [module.weight.numel() for module in model.native.modules() if isinstance(module, nn.Linear)]
    tokens = embed.queries.lengths.sum() + embed.documents.lengths.sum()
    return float(3 * sum(inner) * tokens * counted)


def _bare_products(options: argparse.Namespace) -> float:
    """Measure a bare matrix product of the same precision, in multiply-adds per second."""
    device = pick_device(options.device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[options.precision]
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(7):
        started = time.perf_counter()
        float((left @ right)[0, 0])
        times.append(time.perf_counter() - started)
    return float(size**3 / min(times))


def _data(queries: list[str], documents: list[str], places: np.ndarray) -> TrainingData:
    return TrainingData(
        queries=queries,
        documents=documents,
        examples=np.stack([places, places], axis=1),
        teacher_scores=None,
        validation=np.empty((0, 2), np.int64),
        relevant={},
        hash="",
        notes={},
    )


def _parts(options: argparse.Namespace, model: HostModel, queries: list[str], documents: list[str]) -> dict[str, Any]:
    """Return the share of each part in the time of a step of our trainer."""
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])

    def on_step(step: int) -> None:
        if step == WARM_UP:
            profiler.start()

    result = _train_ours(options, model, queries, documents, on_step)
    profiler.stop()
    steps = options.steps
    seconds = {event.key: event.cpu_time_total / 1e6 / steps for event in profiler.key_averages() if event.key in PARTS}
    seconds["tokenise"] = result["tokenise_s"] / (steps + WARM_UP)
    total = sum(seconds.values())
    return {"parts": {name: round(seconds[name] / total, 4) for name in PARTS}}


def _train_with_host(
    options: argparse.Namespace, model: HostModel, queries: list[str], documents: list[str]
) -> dict[str, Any]:
    """Train with PyLate's recipe, or with sentence-transformers' if PyLate is not installed."""
    from datasets import Dataset
    from torch.utils.data import BatchSampler, SequentialSampler
    from transformers import TrainerCallback

    stamps, losses = [], []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, arguments: Any, state: Any, control: Any, **rest: Any) -> None:
            stamps.append(time.perf_counter())

    def in_order(dataset: Any, batch_size: int, drop_last: bool, **rest: Any) -> BatchSampler:
        return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)

    batch = options.batch[0]
    common = {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": batch,
        "num_train_epochs": 1,
        "learning_rate": 3e-5,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": options.precision == "bf16",
        "fp16": options.precision == "fp16",
        "use_cpu": options.device == "cpu",
        "batch_sampler": in_order,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": options.device != "cpu",
    }
    dataset = Dataset.from_dict({"query": queries, "positive": documents})
    if importlib.util.find_spec("pylate") is not None:
        from pylate import losses as host_losses
        from pylate.utils import ColBERTCollator
        from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

        loss: Any = host_losses.Contrastive(model.native)
        extra: dict[str, Any] = {"data_collator": ColBERTCollator(model.native.tokenize)}
        kinds: Any = (SentenceTransformerTrainer, SentenceTransformerTrainingArguments)
        name = "pylate"
    else:
        from sentence_transformers.multi_vector_encoder import (
            MultiVectorEncoderTrainer,
            MultiVectorEncoderTrainingArguments,
        )
        from sentence_transformers.multi_vector_encoder import losses as host_losses

        loss = host_losses.MultiVectorMultipleNegativesRankingLoss(model.native)
        extra = {}
        # Unlike its encode, its trainer adds no prefix to texts unless prompts are given.
        prompts: Any = model.native.prompts
        common["prompts"] = {"query": prompts["query"], "positive": prompts["document"]}
        kinds = (MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments)
        name = "sentence-transformers"
    forward = loss.forward

    def watched(*inputs: Any, **named: Any) -> Any:
        value = forward(*inputs, **named)
        losses.append(float(value.detach()))
        return value

    loss.forward = watched
    trainer = kinds[0](
        model=model.native, args=kinds[1](**common), train_dataset=dataset, loss=loss, callbacks=[Watch()], **extra
    )
    trainer.train()
    seconds = stamps[-1] - stamps[WARM_UP - 1]
    return {"trainer": name, "examples_per_s": options.steps * batch / seconds, "losses": losses}


def _line(result: dict[str, Any]) -> str:
    ours, host = (max(result["examples_per_s"][name]) for name in ("ours", "host"))
    memory, differ = result["memory_ratio"], result["largest_difference_of_losses"]
    return (
        f"{result['data']}, batch {result['batch']}, {result['precision']}: {ours:.1f} examples/s, {host:.1f} for "
        f"{result['host']} ({result['speed_ratio']:.2f}x), peak memory {memory:.2f}x, losses differ by {differ:.4f}"
    )


def _draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot the losses of both trainers together, one panel per measurement."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(results), 2.6), layout="constrained")
    for panel, result in zip(figure.subplots(1, len(results), squeeze=False)[0], results, strict=True):
        steps = range(1, len(result["losses"]["ours"]) + 1)
        panel.plot(steps, result["losses"]["host"], "-", linewidth=3, color="#bbbbbb", label=result["host"])
        panel.plot(steps, result["losses"]["ours"], "--", linewidth=1.2, color="#1f4e79", label="projheads")
        panel.set_title(f"{result['data']}, batch {result['batch']}", fontsize=8)
        panel.set_xlabel("step", fontsize=8)
        panel.set_ylabel("loss", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.legend(fontsize=7)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
