"""Is bf16 faster than fp32 on this processor? The matrix products of MiniLM's layers in both.

The two take turns in one process, and the fastest turn of each counts. A ratio above 1 means that bf16 is faster by
that factor; ``precision: auto`` should be bf16 exactly then. Run it with
``python -m benchmarks.precision --output results/precision-cpu.json``.
"""

import argparse
from pathlib import Path
from time import perf_counter

import torch
import torch.nn.functional as F

from experiment.disk.files import SCHEMA_VERSION, versions, write_json
from experiment.encoding.device import resolve_precision

__all__ = ["main"]

TOKENS, HIDDEN, INNER = 4096, 384, 1536
TURNS = 9
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    """Measure both data types with one thread and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    features = torch.cpu.get_capabilities()
    turns = [{name: _seconds(dtype) for name, dtype in DTYPES.items()} for _ in range(TURNS)]
    fastest = {name: min(turn[name] for turn in turns) for name in DTYPES}
    operations = 2 * TOKENS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER)
    chosen = resolve_precision("auto", torch.device("cpu"))
    ratio = fastest["fp32"] / fastest["bf16"]
    print(f"bf16 is {ratio:.2f}x as fast as fp32; auto is {chosen}")
    write_json(
        options.output,
        {
            "schema_version": SCHEMA_VERSION,
            "processor": features["cpu_name"],
            "instructions": {name: features.get(name, False) for name in ("avx512_f", "avx512_bf16", "amx_bf16")},
            "threads": 1,
            "versions": versions({name: name for name in ("projheads", "torch")}),
            "tokens": TOKENS,
            "widths": [HIDDEN, INNER],
            "seconds": fastest,
            "operations_per_second": {name: operations / seconds for name, seconds in fastest.items()},
            "times_as_fast_in_bf16": ratio,
            "auto": chosen,
        },
    )


def _seconds(dtype: torch.dtype) -> float:
    """Time the linear layers of one transformer layer: four square ones, and two of the feed-forward part."""
    rows, square, wide, narrow = (
        torch.randn(shape, dtype=dtype)
        for shape in ((TOKENS, HIDDEN), (HIDDEN, HIDDEN), (INNER, HIDDEN), (HIDDEN, INNER))
    )
    started = perf_counter()
    for _ in range(4):
        F.linear(rows, square)
    F.linear(F.linear(rows, wide), narrow)
    return perf_counter() - started


if __name__ == "__main__":
    main()
