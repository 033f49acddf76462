"""Benchmarks the parts of an evaluation against other programs: encode, search, growth, experiment.

``python -m benchmarks.eval encode search growth experiment [--documents 1000]`` measures the named parts (by default
all) and writes results/eval-cpu.json and .md; the other parts of these files are kept. SciFact is read from a folder in
BEIR layout. If sentence-transformers is installed instead of PyLate, ``encode`` is compared with it. ``encode`` and the
exact search of ``search`` can also be measured on a GPU.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.eval_data import BACKBONE, Texts, make_model, scifact, write_vectors
from benchmarks.eval_encode import measure_encoding
from benchmarks.eval_experiment import measure_experiment
from benchmarks.eval_growth import draw_growth, measure_growth
from benchmarks.eval_search import PEERS, measure_search
from benchmarks.eval_table import markdown
from experiment.console.command import run_command
from experiment.disk.files import SCHEMA_VERSION, read_json, sha256_json, versions, write_json, write_text
from experiment.encoding.device import describe_device, pick_device
from projheads.hosts import available_hosts

__all__ = ["main"]

PARTS = ("encode", "search", "growth", "experiment")
PACKAGES = ("torch", "transformers", "pylate", "sentence-transformers", "fast-plaid", "faiss-cpu", "voyager", "scann")


def main(arguments: Sequence[str]) -> None:
    """Measure the named parts and write them to the result file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eval", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; growth and experiment need the CPU")
    parser.add_argument("--backbone", default=BACKBONE, help="a folder or a hub name")
    parser.add_argument(
        "--documents", type=int, default=5183, help="number of SciFact documents, including the judged ones"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of alternating measurements")
    parser.add_argument(
        "--peers", nargs="*", choices=list(PEERS), default=list(PEERS), help="programs to compare search with"
    )
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[10**5, 10**6, 10**7], help="numbers of token vectors for growth"
    )
    parser.add_argument("--limit", type=float, default=600, help="maximum seconds per method in growth")
    parser.add_argument("--pylate-evaluations", type=int, default=3, help="number of PyLate evaluations to measure")
    parser.add_argument("--scifact", type=Path, default=Path(".data/scifact"))
    parser.add_argument("--cache", type=Path, default=Path("outputs/.cache/benchmarks"))
    parser.add_argument("--output", type=Path, help="default: results/eval-<device>.json")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    device = pick_device(options.device)
    parts = options.parts or (PARTS if device.type == "cpu" else PARTS[:2])
    if device.type != "cpu" and not set(parts) <= set(PARTS[:2]):
        parser.error(f"only {' and '.join(PARTS[:2])} can be measured on {device}")
    output = options.output or Path(f"results/eval-{device.type}.json")
    texts, host = scifact(options.scifact, options.documents), available_hosts()[0]
    for part in parts:
        result = _measure(part, texts, host, device, output, options)
        _save(output, f"encode-{host}" if part == "encode" else part, device, result, arguments)


def _measure(
    part: str, texts: Texts, host: str, device: torch.device, output: Path, options: argparse.Namespace
) -> dict[str, Any]:
    if part == "experiment":
        return measure_experiment(texts, options.backbone, options.pylate_evaluations)
    model = make_model(host, options.backbone, device=device)
    if part == "encode":
        return measure_encoding(model, texts, options.rounds)
    folder = options.cache / sha256_json([texts.document_ids, host, options.backbone])[:16]
    write_vectors(model, texts, folder)
    if part == "search":
        return measure_search(texts, folder, device, options.rounds, options.peers)
    growth = measure_growth(folder, options.sizes, options.limit)
    draw_growth(growth, output.with_name("eval-growth"))
    return growth


def _save(path: Path, part: str, device: torch.device, result: dict[str, Any], arguments: Sequence[str]) -> None:
    """Write a part to the result file, keeping the others."""
    parts = read_json(path)["parts"] if path.exists() else {}
    about = {
        "command": f"python -m benchmarks.eval {' '.join(arguments)}".rstrip(),
        "device": describe_device(device),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "versions": versions({name: name for name in PACKAGES}),
    }
    parts[part] = about | result
    write_json(path, {"schema_version": SCHEMA_VERSION, "parts": parts})
    write_text(path.with_suffix(".md"), markdown(parts))
    print(f"{part}: written to {path}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
