"""Inference time of every registered head and preset, and of its cheaper equal forms, relative to one linear layer.

Folded is one matrix; reparameterised is what ``projheads.reparameterize`` returns.

All heads project the same token states in one process, taking turns. On the CPU they run on one thread and its CPU time
is measured, so a busy machine matters little. A ratio is the median over turns of the time divided by the linear
layer's time in the same turn. Each timed pass follows an untimed one, so that a larger head's leftovers in the caches
do not matter. A second linear layer shows how far the ratio of equals is from 1. Run it with
``python -m benchmarks.heads --output results/heads-cpu.json``.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiment.disk.files import SCHEMA_VERSION, versions, write_json
from experiment.encoding.device import describe_device, pick_device
from projheads import build_head, fold, folds, head_cost, list_heads, list_presets, reparameterize
from projheads.errors import ProjheadsError

__all__ = ["main"]

WIDTHS = [(768, 128), (384, 128)]
CHEAPER = (
    'ffn(activation="gelu", idle=0.5)',
    'ffn(depth=4, activation=("identity", "gelu", "identity", "identity"))',
    'upscaled(activation="gelu", residual=true)',
    'structured(kind="low_rank", rank=384, activation="gelu")',
    'structured(kind="block_shuffle", blocks=2, activation="gelu")',
)
"""Heads that are not linear; all but the last have an equal form with fewer multiply-adds."""
TOKENS = 1024
TURNS = 15


def main() -> None:
    """Measure every head at every width and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads", description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the result")
    options = parser.parse_args()
    device = pick_device(options.device)
    torch.set_num_threads(1)
    results = []
    for in_features, out_features in WIDTHS:
        results.append(_measure(in_features, out_features, device))
        print(f"{in_features} -> {out_features}, {TOKENS} token states")
        for name, measured in results[-1]["heads"].items():
            folded = f", folded {measured['folded_ratio']:.2f}x" if measured["folded_ratio"] is not None else ""
            if (cheaper := measured["reparameterised_ratio"]) is not None:
                promised = measured["reparameterised_multiply_adds_ratio"]
                folded += f", reparameterised {cheaper:.2f}x ({promised:.2f}x multiply-adds)"
            print(f"  {name:16} {1000 * measured['seconds']:7.2f} ms  {measured['ratio']:6.2f}x{folded}")
    write_json(
        options.output,
        {
            "schema_version": SCHEMA_VERSION,
            "what": "median over turns of the seconds (on a CPU: thread CPU time) of one fp32 forward pass without "
            "gradients; ratios to the linear layer are the median over turns of the ratio within a turn",
            "command": f"python -m benchmarks.heads --device {options.device} --output {options.output}",
            "device": describe_device(device),
            "versions": versions({name: name for name in ("projheads", "torch")}),
            "tokens": TOKENS,
            "turns": TURNS,
            "results": results,
        },
    )


def _measure(in_features: int, out_features: int, device: torch.device) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(TOKENS, in_features, generator=generator).to(device)
    heads = {name: build_head(name, in_features, out_features) for name in [*list_heads(), *list_presets(), *CHEAPER]}
    cheaper = {name: one for name, head in heads.items() if (one := reparameterize(head)) is not head}
    timed: dict[str, nn.Module] = {"one linear layer": fold(heads["linear"]), "another": fold(heads["linear"])}
    for name, head in heads.items():
        timed[name] = head
        if folds(head):
            timed[f"{name} folded"] = fold(head)
        if name in cheaper:
            timed[f"{name} reparameterised"] = cheaper[name]
    for name, module in timed.items():
        _require_close(heads, name, module.to(device).eval(), states[:64])
    seconds = _seconds(timed, states)
    base = seconds["one linear layer"]

    def ratio(name: str) -> float | None:
        return statistics.median(map(float.__truediv__, seconds[name], base)) if name in seconds else None

    return {
        "in_features": in_features,
        "out_features": out_features,
        "linear_layer_seconds": statistics.median(base),
        "ratio_of_another_linear_layer": ratio("another"),
        "heads": {
            name: {
                "seconds": statistics.median(seconds[name]),
                "ratio": ratio(name),
                "folded_ratio": ratio(f"{name} folded"),
                "reparameterised_ratio": ratio(f"{name} reparameterised"),
                "multiply_adds_ratio": head_cost(head).multiply_adds / (in_features * out_features),
                "reparameterised_multiply_adds_ratio": (
                    head_cost(cheaper[name]).multiply_adds / (in_features * out_features) if name in cheaper else None
                ),
            }
            for name, head in heads.items()
        },
    }


def _require_close(heads: dict[str, Any], name: str, module: nn.Module, states: Tensor) -> None:
    """Check that a cheaper form computes what the head computes, so that the timing is meaningful."""
    head = heads.get(name.removesuffix(" folded").removesuffix(" reparameterised"))
    if head is None:
        return
    with torch.no_grad():
        ours, theirs = (nn.functional.normalize(one.eval()(states), dim=-1) for one in (module, head.to(states.device)))
    if not torch.allclose(ours, theirs, atol=1e-5):
        raise ProjheadsError(f"{name}: does not compute what the head computes")


def _seconds(timed: dict[str, nn.Module], states: Tensor) -> dict[str, list[float]]:
    """Time one forward pass of each module per turn, in a different order each turn."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    names = list(timed)
    clock = time.perf_counter if states.is_cuda else time.thread_time
    with torch.inference_mode():
        for turn in range(-2, TURNS):  # the first two are warm-up
            for place in range(len(names)):
                name = names[(place + max(0, turn)) % len(names)]
                timed[name](states)
                started = clock()
                timed[name](states)
                if states.is_cuda:
                    torch.cuda.synchronize(states.device)
                if turn >= 0:
                    seconds[name].append(clock() - started)
    return seconds


if __name__ == "__main__":
    main()
