"""Evaluation in one pass over a corpus: how it grows, what heads share, several processes, and both ways side by side.

``python -m benchmarks.scale growth heads processes products real`` measures the named parts (by default all)
and writes results/scale-cpu.json and .md; the other parts of these files are kept. All but ``real`` use made-up corpora
(words of SciFact) and a tiny random backbone (two layers of width 64), whose speed says nothing about a real one; the
part ``real`` uses a real one. Heads are untrained.
"""

import argparse
import json
import multiprocessing
import os
import resource
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.eval_data import in_child, resident
from benchmarks.eval_search import bare_products
from benchmarks.scale_data import HEADS, make_corpus, make_experiment, make_tiny_backbone
from benchmarks.scale_table import markdown
from eval.estimate import estimate_groups
from eval.evaluate import encoding_of, evaluate_experiment
from eval.evaluator import Evaluator, make_evaluator
from eval.search.exact import choose_first_pass
from eval.subjects import list_trials
from experiment.collections import open_collection
from experiment.config import ExperimentConfig
from experiment.config.load import load_config
from experiment.console.command import run_command
from experiment.console.progress import Progress
from experiment.disk.files import SCHEMA_VERSION, read_json, remove_paths, versions, write_json, write_text
from experiment.encoding.device import describe_device, pick_device
from projheads.hosts import available_hosts

__all__ = ["main"]

PACKAGES = ("torch", "transformers", "pylate", "sentence-transformers", "ray")


def main(arguments: Sequence[str]) -> None:
    """Measure the named parts and write them to the result file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(MEASURES)} (default: all)")
    parser.add_argument("--sizes", nargs="+", type=int, default=[10**5, 3 * 10**5, 10**6], help="documents for growth")
    parser.add_argument("--documents", type=int, default=10**5, help="documents for heads, processes and products")
    parser.add_argument("--gigabytes", type=float, nargs=2, default=[8, 20], help="of memory and disk, for growth")
    parser.add_argument("--queries", type=int, default=100, help="queries of made-up corpora (default: 100)")
    parser.add_argument("--backbone", default="sentence-transformers/all-MiniLM-L6-v2", help="a folder or a hub name")
    parser.add_argument("--data", type=Path, default=Path(".data"), help="folder of the real collections")
    parser.add_argument("--real", nargs="+", default=["scifact", "clef2020_checkthat_t2"], help="collections in DATA")
    parser.add_argument("--device", default="cpu", help="for growth, heads and real (default: cpu)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cache", type=Path, default=Path("outputs/.cache/scale"))
    parser.add_argument("--output", type=Path, default=Path("results/scale-cpu.json"))
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(MEASURES)
    if unknown:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; known: {', '.join(MEASURES)}")
    options.command = f"python -m benchmarks.scale {' '.join(arguments)}".rstrip()
    for part in options.parts or MEASURES:
        _save(options.output, part, MEASURES[part](options), options)


def _growth(options: argparse.Namespace) -> dict[str, Any]:
    """Seven heads in one pass over corpora of growing size, on a machine with little memory and disk.

    Rows of other sizes in the result file are kept.
    """
    memory, disk = (int(number * 10**9) for number in options.gigabytes)
    rows = _kept(options.output, "growth", options.sizes)
    for size in options.sizes:
        yaml = _made_up(options, size, HEADS, f"growth-{size}")
        row = in_child(_evaluate_limited, yaml, memory, options.threads, options.device)
        if row["disk_bytes"] + row["text_bytes"] > disk:
            raise AssertionError(f"{row['disk_bytes'] + row['text_bytes']} bytes on disk, more than {disk}")
        rows.append({"documents": size, "command": options.command, "load": os.getloadavg()[0], **row})
        print(rows[-1], flush=True)
    rows.sort(key=lambda row: row["documents"])
    return {"queries": options.queries, "memory_limit": memory, "disk_limit": disk, "rows": rows}


def _evaluate_limited(yaml: Path, memory: int, threads: int, device: str) -> dict[str, Any]:
    """Evaluate in this process; on a CPU, it gets no memory beyond a limit: an allocation that exceeds it fails."""
    if device == "cpu":  # a CUDA driver reserves more address space than any limit that would be of use
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    return _evaluate(yaml, "streamed", threads, device)


def _heads(options: argparse.Namespace) -> dict[str, Any]:
    """Seven heads in one pass, against seven passes with one head each."""
    together = _made_up(options, options.documents, HEADS, "together")
    one_pass = in_child(_evaluate, together, "streamed", options.threads, options.device)
    separate = []
    for number, head in enumerate(HEADS):
        yaml = _made_up(options, options.documents, [head], f"separate-{number}")
        separate.append(in_child(_evaluate, yaml, "streamed", options.threads, options.device))
        if _runs(yaml)[next(iter(_runs(yaml)))] not in _runs(together).values():
            raise AssertionError(f"{head}: a pass on its own found something else")
    seconds = sum(one["wall_s"] for one in separate)
    return {
        "documents": options.documents,
        "one_pass_s": one_pass["wall_s"],
        "seven_passes_s": seconds,
        "times_faster": seconds / one_pass["wall_s"],
    }


def _processes(options: argparse.Namespace) -> dict[str, Any]:
    """One and two processes with one thread each, and two tasks of a Ray cluster if Ray is installed."""
    found, runs = {}, []
    for name, count, executor in (("one", 1, None), ("two", 2, None), ("two Ray tasks", 2, "ray")):
        if executor and "ray" not in versions({"ray": "ray"}):
            continue
        yaml = _made_up(options, options.documents, HEADS, f"processes-{name.replace(' ', '-')}")
        started = time.perf_counter()
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=_evaluate_quietly, args=(yaml, 1, executor)) for _ in range(1 if executor else count)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            if worker.exitcode:
                raise AssertionError(f"{name}: a process ended with {worker.exitcode}")
        found[name] = {"wall_s": time.perf_counter() - started, "processes": count}
        runs.append(_runs(yaml))
        print(name, found[name], flush=True)
    if any(one != runs[0] for one in runs):
        raise AssertionError("several processes found something else")
    for row in found.values():
        row["speed_up"] = found["one"]["wall_s"] / row["wall_s"]
    return {"documents": options.documents, "cores": os.cpu_count(), "bytes_equal": True, "rows": found}


def _products(options: argparse.Namespace) -> dict[str, Any]:
    """Search inside the pass, against the bare products of the same matrices; rows of other sizes are kept."""
    yaml = _made_up(options, options.documents, HEADS[:1], f"products-{options.documents}")
    row = {"command": options.command, "load": os.getloadavg()[0], **in_child(_searching, yaml, options.threads)}
    rows = [*_kept(options.output, "products", [options.documents]), row]
    return {"rows": sorted(rows, key=lambda one: one["documents"])}


def _searching(yaml: Path, threads: int) -> dict[str, Any]:
    from eval.search.ranking import Problem
    from experiment.disk.layout import ExperimentFolder

    _evaluate(yaml, "streamed", threads)
    config = load_config(yaml)
    folder = ExperimentFolder(config.output)
    (file,) = folder.path.glob("trials/*/seed-0/eval/*.json")
    inside = json.loads(file.read_text())["timings"]["search_s"]
    device, evaluator = torch.device("cpu"), _open(config)
    (subject,) = list_trials(config, print)
    how = choose_first_pass(device, evaluator.encoder.query_store(subject))
    with evaluator.encoder.embedded(subject) as (queries, documents):
        problem: Problem = evaluator.task.problem(queries, documents)
        bare = min(min(bare_products(problem, device, how).values()) for _ in range(3))
    return {
        "documents": len(documents),
        "queries": len(queries),
        "first_pass": how,
        "inside_s": inside,
        "bare_s": bare,
        "times": inside / bare,
    }


def _real(options: argparse.Namespace) -> dict[str, Any]:
    """Real collections with a real backbone, stored and streamed."""
    rows = {}
    for name in options.real:
        row: dict[str, Any] = {}
        runs = []
        for way in ("stored", "streamed"):
            folder = options.cache / f"{name}-{way}"
            remove_paths([folder])
            yaml = make_experiment(folder, options.backbone, options.data / name, HEADS, available_hosts()[0])
            row[way] = in_child(_evaluate, yaml, way, options.threads, options.device)
            runs.append(_runs(yaml))
            print(name, way, row[way], flush=True)
        if runs[0] != runs[1]:
            raise AssertionError(f"{name}: the two ways differ")
        rows[name] = row
    return {"backbone": options.backbone, "bytes_equal": True, "rows": rows}


def _made_up(options: argparse.Namespace, size: int, heads: Sequence[str], name: str) -> Path:
    """Write a made-up corpus and an experiment that has not been evaluated."""
    corpus = make_corpus(
        options.cache / f"corpus-{size}-{options.queries}", options.data / "scifact", size, options.queries
    )
    backbone = make_tiny_backbone(options.cache / "tiny-backbone", options.backbone)
    remove_paths([options.cache / name])
    return make_experiment(options.cache / name, str(backbone), corpus, heads, available_hosts()[0])


def _evaluate(yaml: Path, way: str, threads: int, device: str = "cpu") -> dict[str, Any]:
    """Evaluate an experiment in this process; return what it took and what was predicted."""
    config = load_config(yaml, [f"eval.corpus={way}", "eval.index=exact", f"threads={threads}", f"device={device}"])
    torch.set_num_threads(threads)
    predicted = _predict(config)
    started = time.perf_counter()
    with _largest(config.cache) as largest:
        evaluate_experiment(config, Progress())
    seconds, corpora = time.perf_counter() - started, _text_bytes(config.cache)
    measured = {"seconds": seconds, "disk": largest["disk"] - corpora, "memory": largest["memory"]}
    return {
        "evaluate_s": seconds,
        "disk_bytes": measured["disk"],
        "text_bytes": corpora,
        "peak_bytes": measured["memory"],
        "predicted": predicted,
        "predicted_by_measured": {name: predicted[name] / value for name, value in measured.items() if value},
    }


def _predict(config: ExperimentConfig) -> dict[str, float]:
    """Return the time, disk and memory that an evaluation announces."""
    groups = estimate_groups(_open(config), list_trials(config, print))
    needs = [group.way.streamed_need if group.way.streamed else group.way.stored_need for group in groups]
    return {
        "seconds": sum(group.seconds for group in groups),
        "disk": max(need.disk for need in needs),
        "memory": max(need.memory for need in needs),
    }


def _open(config: ExperimentConfig) -> Evaluator:
    (ref,) = config.eval.datasets
    collection = open_collection(ref.source, split=ref.split, cache=config.cache)
    encoding = encoding_of(config, pick_device(config.device))
    return make_evaluator(ref, collection, config.eval, encoding, Progress(quiet=True))


def _text_bytes(cache: Path) -> int:
    return sum(file.stat().st_size for file in cache.glob("corpora/*/*"))


def _evaluate_quietly(yaml: Path, threads: int, executor: str | None) -> None:
    from experiment.executors.local import LocalExecutor

    torch.set_num_threads(threads)
    config = load_config(yaml, ["eval.corpus=streamed", f"threads={threads}", "device=cpu"])
    if executor is None:
        evaluate_experiment(config, Progress(quiet=True), LocalExecutor())
        return
    from experiment.executors.ray_cluster import ray_executor

    with ray_executor(None) as cluster:
        evaluate_experiment(config, Progress(quiet=True), cluster)


@contextmanager
def _largest(cache: Path) -> Iterator[dict[str, int]]:
    """Yield the most bytes that a cache holds on disk, with temporary files that have no name, and this process."""
    ended, largest = threading.Event(), {"disk": 0, "memory": 0}

    def watch() -> None:
        while not ended.wait(0.05):
            largest["disk"] = max(largest["disk"], _on_disk(cache))
            largest["memory"] = max(largest["memory"], resident("RssAnon"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield largest
    finally:
        ended.set()
        thread.join()


def _on_disk(cache: Path) -> int:
    found, opened = dict[int, int](), Path("/proc/self/fd")
    for place in [*cache.rglob("*"), *opened.iterdir()]:
        try:
            about = place.stat()
        except OSError:
            continue
        if stat.S_ISREG(about.st_mode) and (about.st_nlink == 0 or place.parent != opened):
            found[about.st_ino] = about.st_size
    return sum(found.values())


def _runs(yaml: Path) -> dict[str, bytes]:
    folder = load_config(yaml).output
    found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.glob("*/*/seed-0/eval/*.run")}
    if not found:
        raise AssertionError(f"{folder}: no run was written")
    return found


def _parts(path: Path) -> dict[str, Any]:
    """Return the parts of a result file."""
    return dict(read_json(path)["parts"]) if path.exists() else {}


def _kept(path: Path, part: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Return the rows of a part of a result file, without those of sizes that are measured again."""
    rows = _parts(path).get(part, {"rows": []})["rows"]
    return [row for row in rows if row["documents"] not in sizes]


def _save(path: Path, part: str, result: dict[str, Any], options: argparse.Namespace) -> None:
    """Write a part to the result file, keeping the others."""
    parts = _parts(path)
    about = {
        "command": options.command,
        "device": describe_device(torch.device(options.device)),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "load": os.getloadavg()[0],
        "versions": versions({name: name for name in PACKAGES}),
    }
    parts[part] = about | result
    write_json(path, {"schema_version": SCHEMA_VERSION, "parts": parts})
    write_text(path.with_suffix(".md"), markdown(parts))
    print(f"{part}: written to {path}")


MEASURES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "growth": _growth,
    "heads": _heads,
    "processes": _processes,
    "products": _products,
    "real": _real,
}

if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
