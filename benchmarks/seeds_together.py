"""Does it pay to train the seeds of one head together? A step of eight seeds at once against eight single steps.

Together, the seeds' parameters are stacked and ``torch.func.vmap`` runs all of them, each on its own batch. Both
ways use torch's plain operations, see the same token states, and take turns in one process; the losses are compared.
A ratio above 1 means that training together is faster by that factor. Run it with
``python -m benchmarks.seeds_together --output results/seeds-together-cpu.json``.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from experiment.disk.files import SCHEMA_VERSION, versions, write_json
from experiment.encoding.device import describe_device, pick_device
from experiment.losses.contrastive import contrastive_loss
from projheads import build_head

__all__ = ["main"]

HEADS = ("linear", 'ffn(activation="gelu")', "upscaled(residual=true)")
SEEDS = 8
BATCH, QUERY_TOKENS, DOCUMENT_TOKENS = 32, 32, 64
IN_FEATURES, OUT_FEATURES = 384, 128
TURNS = 11


def main() -> None:
    """Measure every head and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeds_together", description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the result")
    options = parser.parse_args()
    device = pick_device(options.device)
    results = {}
    for spec in HEADS:
        results[spec] = _measure(spec, device)
        print(f"{spec}: {SEEDS} seeds together are {results[spec]['speed_up']:.2f}x as fast as one after the other")
    write_json(
        options.output,
        {
            "schema_version": SCHEMA_VERSION,
            "device": describe_device(device),
            "threads": torch.get_num_threads(),
            "versions": versions({name: name for name in ("projheads", "torch")}),
            "seeds": SEEDS,
            "batch": BATCH,
            "tokens": [QUERY_TOKENS, DOCUMENT_TOKENS],
            "widths": [IN_FEATURES, OUT_FEATURES],
            "heads": results,
        },
    )


def _measure(spec: str, device: torch.device) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(SEEDS, BATCH, QUERY_TOKENS + DOCUMENT_TOKENS, IN_FEATURES, generator=generator).to(device)
    single, together = _single(spec, states), _together(spec, states)
    difference = max(abs(a - b) for a, b in zip(single(), together(), strict=True))
    if difference > 1e-3:
        raise RuntimeError(f"{spec}: the losses differ by {difference}")
    turns = [(_seconds(single, device), _seconds(together, device)) for _ in range(TURNS)]
    return {
        "speed_up": statistics.median(one / all_ for one, all_ in turns),
        "seconds_one_after_the_other": statistics.median(one for one, _ in turns),
        "seconds_together": statistics.median(all_ for _, all_ in turns),
        "largest_difference_of_losses": difference,
    }


def _heads(spec: str, device: torch.device) -> list[nn.Module]:
    generators = (torch.Generator().manual_seed(seed) for seed in range(SEEDS))
    return [build_head(spec, IN_FEATURES, OUT_FEATURES, generator=generator).to(device) for generator in generators]


def _loss(embeddings: Tensor) -> Tensor:
    """The loss of one batch of pairs (B, query and document tokens, out_features)."""
    queries, documents = torch.split(F.normalize(embeddings, dim=-1), [QUERY_TOKENS, DOCUMENT_TOKENS], dim=1)
    similarities = queries.flatten(0, 1) @ documents.flatten(0, 1).T
    scores = similarities.reshape(BATCH, QUERY_TOKENS, BATCH, DOCUMENT_TOKENS).amax(3).sum(1)
    return contrastive_loss(scores)


def _single(spec: str, states: Tensor) -> Callable[[], list[float]]:
    heads = _heads(spec, states.device)
    optimizers = [torch.optim.AdamW(head.parameters()) for head in heads]

    def step() -> list[float]:
        losses = []
        for head, optimizer, batch in zip(heads, optimizers, states, strict=True):
            loss = _loss(head(batch))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).tolist()

    return step


def _together(spec: str, states: Tensor) -> Callable[[], list[float]]:
    heads = _heads(spec, states.device)
    parameters, buffers = stack_module_state(heads)
    optimizer = torch.optim.AdamW(parameters.values())
    shape = heads[0]

    def one(own: dict[str, Tensor], fixed: dict[str, Tensor], batch: Tensor) -> Tensor:
        return _loss(functional_call(shape, (own, fixed), (batch,)))

    def step() -> list[float]:
        losses = vmap(one)(parameters, buffers, states)
        optimizer.zero_grad()
        torch.autograd.backward(losses.sum())
        optimizer.step()
        return losses.detach().tolist()

    return step


def _seconds(step: Callable[[], list[float]], device: torch.device) -> float:
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
