"""The cheapest equal form of a head, for inference."""

import copy
from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from projheads.blocks import DenseLayer
from projheads.build import build_head
from projheads.folding import fold, folds
from projheads.head import Head, reference_tensor
from projheads.hosts.dense_chain import from_dense_chain
from projheads.merging import as_branches, merge_chain
from projheads.spec import HeadSpec, OptionValue

__all__ = ["chain_forms", "count_multiply_adds", "reparameterize", "with_skip"]


def reparameterize(head: Head) -> Head:
    """Return the head of the registry that computes the same at inference with the fewest multiply-adds.

    The candidates are one matrix, if the head is linear, and the forms that the head itself gives (see
    :meth:`projheads.head.Head.equal_forms`): neighbouring matrices multiplied where that costs less, structured
    matrices multiplied out, and channels that skip the activation merged into a skip. The input is not changed.

    Args:
        head: A head, in any mode.

    Returns:
        A new head, in the dtype, on the device and in the mode of the given one, whose embeddings agree with it to 1e-6
        after L2 normalisation in float32; or ``head`` itself if no form costs less.
    """
    exact = copy.deepcopy(head).cpu().double().eval()
    best, cost = head, count_multiply_adds(exact)
    if folds(exact):
        folded = from_dense_chain([DenseLayer.around(fold(exact))])
        # At equal cost one matrix is faster: what makes the head's own matrix is not counted.
        if type(folded) is not type(head) and count_multiply_adds(folded) <= cost:
            best, cost = folded, count_multiply_adds(folded)
    for candidate in exact.equal_forms():
        if count_multiply_adds(candidate) < cost:
            best, cost = candidate, count_multiply_adds(candidate)
    if best is head:
        return head
    weights = reference_tensor(head)
    return best.to(device=weights.device, dtype=weights.dtype).train(head.training)


def count_multiply_adds(head: Head) -> int:
    """Count the multiply-adds of one token at inference; torch's FlopCounterMode counts matrix products."""
    copied = copy.deepcopy(head).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copied(reference_tensor(head).new_zeros(1, head.in_features))
    return int(counter.get_total_flops() // 2)


def chain_forms(layers: Sequence[DenseLayer]) -> list[Head]:
    """Return heads that compute what a chain of dense layers computes at inference, in float64 on the CPU."""
    merged = merge_chain(layers)
    branches = as_branches(merged)
    found = [] if any(layer.idle for layer in merged) else [from_dense_chain(merged)]
    # The skip of a residual head through equal widths is the identity.
    if branches is not None and branches.skip.shape[0] != branches.skip.shape[1]:
        found.append(with_skip(from_dense_chain(branches.chain), branches.skip, 1.0))
    return found


def with_skip(inner: Head, skip: torch.Tensor | None, scale: float) -> Head:
    """Return the head ``residual`` around another, with its weights: skip x + scale inner(x); None is the identity."""
    options: dict[str, OptionValue] = {"inner": inner.spec}
    if scale != 1:
        options["scale"] = scale
    made = build_head(HeadSpec("residual", options), inner.in_features, inner.out_features).double()
    weights = {f"inner.{name}": tensor for name, tensor in inner.state_dict().items()}
    made.load_state_dict(weights if skip is None else {**weights, "skip.weight": skip})
    return made
