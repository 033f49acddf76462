"""MaxSim of a training step, forward and backward: the backends of projheads against each other and against PyLate.

The backends take turns in one process, so a busy machine slows them all equally; the ratios are what matters. Run
it with ``python -m benchmarks.maxsim --output results/maxsim-cpu.json``.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from experiment.disk.files import SCHEMA_VERSION, versions, write_json
from experiment.encoding.device import describe_device, peak_memory, pick_device, reset_peak_memory
from projheads.errors import ProjheadsError
from projheads.scoring import maxsim

__all__ = ["main"]

QUERY_LENGTH, WIDTH = 32, 128
SHAPES_ON_CPU = [(32, 100), (64, 100), (64, 180)]
SHAPES_ON_CUDA = [(64, 180), (256, 180), (1024, 180)]
ROUNDS = 7


def main() -> None:
    """Measure every backend that runs on the device and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.maxsim", description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the result")
    options = parser.parse_args()
    device = pick_device(options.device)
    results = []
    for batch, length in SHAPES_ON_CUDA if device.type == "cuda" else SHAPES_ON_CPU:
        for dtype in (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,):
            results.append(_measure(batch, length, dtype, device))
            print(_line(results[-1]))
    write_json(
        options.output,
        {
            "schema_version": SCHEMA_VERSION,
            "what": "seconds of one forward and backward pass, median over alternating rounds",
            "command": f"python -m benchmarks.maxsim --device {options.device} --output {options.output}",
            "device": describe_device(device),
            "versions": versions({name: name for name in ("torch", "pylate", "late-interaction-kernels")}),
            "rounds": ROUNDS,
            "results": results,
        },
    )


def _measure(batch: int, length: int, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    queries = _embeddings((batch, QUERY_LENGTH, WIDTH), generator, dtype, device)
    documents = _embeddings((batch, length, WIDTH), generator, dtype, device)
    lengths = torch.randint(length // 2, length + 1, (batch, 1), generator=generator)
    mask = (torch.arange(length) < lengths).to(device)
    backends = _backends(queries, documents, mask)
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    peaks: dict[str, int] = {}
    for turn in range(ROUNDS + 1):
        for name, score in backends.items():
            reset_peak_memory(device)
            taken = _step(score, queries, documents, device)
            if turn:  # the first turn is warm-up
                seconds[name].append(taken)
            if device.type == "cuda":
                peaks[name] = peak_memory(device)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "batch": batch,
        "query_length": QUERY_LENGTH,
        "document_length": length,
        "width": WIDTH,
        "dtype": str(dtype).removeprefix("torch."),
        "seconds": medians,
        "times_faster_than_reference": {name: medians["reference"] / median for name, median in medians.items()},
        "peak_memory_bytes": peaks,
    }


def _backends(queries: Tensor, documents: Tensor, mask: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return the scoring functions that run here."""
    backends: dict[str, Callable[[], Tensor]] = {}
    for name in ("reference", "blocked", "fused"):
        try:
            maxsim(queries[:1], documents[:1], None, mask[:1], backend=name)
        except ProjheadsError:
            continue
        backends[name] = lambda name=name: maxsim(queries, documents, None, mask, backend=name)  # type: ignore[misc]
    if importlib.util.find_spec("pylate"):
        from pylate.scores import colbert_scores

        backends["pylate"] = lambda: colbert_scores(queries, documents, documents_mask=mask, backend="torch")
    return backends


def _step(score: Callable[[], Tensor], queries: Tensor, documents: Tensor, device: torch.device) -> float:
    queries.grad = documents.grad = None
    _wait(device)
    started = time.perf_counter()
    loss = functional.cross_entropy(score().float(), torch.arange(len(queries), device=device))
    loss.backward()  # type: ignore[no-untyped-call]
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _embeddings(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
    rows = functional.normalize(torch.randn(shape, generator=generator), dim=-1)
    return rows.to(device, dtype).requires_grad_()


def _line(result: dict[str, Any]) -> str:
    shape = f"batch {result['batch']}, documents of {result['document_length']} tokens, {result['dtype']}"
    times = ", ".join(
        f"{name} {1000 * seconds:.1f} ms ({result['times_faster_than_reference'][name]:.2f}x)"
        for name, seconds in result["seconds"].items()
    )
    return f"{shape}: {times}"


if __name__ == "__main__":
    main()
