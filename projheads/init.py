"""How the first weights of a head are drawn: a choice of its own, apart from the head's form."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from projheads.errors import ProjheadsError, unknown_name
from projheads.folding import fold
from projheads.head import Head, head_label, reference_tensor

__all__ = ["MAPPED_INITS", "SAMPLED_INITS", "initialise", "isolated_random_state", "list_inits", "take_over"]

SAMPLED_INITS = ("norm-matched", "pca")
"""The initialisations that look at a sample of token states."""

MAPPED_INITS = ("pca", "preserve")
"""The initialisations for heads that can take over a linear map."""

_STEPS = 100
_TOLERANCE = 1e-5


def list_inits() -> list[str]:
    """List the initialisations.

    - ``torch``: what the constructors draw; for linear layers uniform in +-1/sqrt(fan_in).
    - ``xavier``: every matrix Glorot-uniform (Glorot and Bengio, 2010), every bias of a linear layer 0.
    - ``orthogonal``: every matrix (semi-)orthogonal (Saxe et al., 2014), every bias of a linear layer 0.
    - ``norm-matched``: ``torch``, then rescaled so that heads of different form start with outputs of the same mean
      L2 norm: the one that a bias-free linear head has.
    - ``pca``: the head starts as the linear map onto the ``out_features`` principal directions of the normalised token
      states, not centred: of all maps of that width, it keeps the cosines that MaxSim sums over best (Eckart and Young,
      1936).
    - ``preserve``: the head starts as an old head's map, for a model that is trained already.

    ``MAPPED_INITS`` ask of a head that it can take over a linear map: see :meth:`projheads.head.Head.preserve`.
    """
    return sorted(_INITS)


def initialise(
    head: Head,
    init: str,
    *,
    generator: torch.Generator,
    sample: Tensor | None = None,
    old: nn.Module | None = None,
) -> None:
    """Give a freshly constructed head its first weights, in place.

    Args:
        head: A head as its constructor left it.
        init: One of :func:`list_inits`.
        generator: The CPU generator that everything is drawn from.
        sample: Token states (n, in_features), needed by ``SAMPLED_INITS`` and unused otherwise.
        old: The head whose map ``preserve`` takes over: one that folds. Unused otherwise.

    Raises:
        ProjheadsError: If the name is unknown, what the initialisation needs is missing or of another width, or the
            head does not allow it.
    """
    if init not in _INITS:
        raise unknown_name("init", init, _INITS)
    with torch.no_grad():
        _INITS[init](head, _Given(generator, sample, old))


def take_over(head: Head, weight: Tensor, bias: Tensor | None = None) -> None:
    """Let a freshly constructed head compute weight x + bias, in place; see :meth:`projheads.head.Head.preserve`.

    Raises:
        ProjheadsError: If the widths differ, a number is not finite, or the head can not; the line says why not.
    """
    if tuple(weight.shape) != (head.out_features, head.in_features):
        there = f"{weight.shape[1]} -> {weight.shape[0]}"
        raise ProjheadsError(
            f"{head_label(head)} maps {head.in_features} -> {head.out_features}, so it can not take over one of {there}"
        )
    if not weight.isfinite().all():
        raise ProjheadsError(f"{head_label(head)} can not take over weights that are not finite")
    exact = weight.detach().cpu().double()
    added = bias.detach().cpu().double() if bias is not None and bias.any() else None
    with torch.no_grad():
        try:
            head.preserve(exact, added)
        except ProjheadsError as error:
            raise ProjheadsError(f"{head_label(head)} can not take over a linear map: {error}") from None


@contextlib.contextmanager
def isolated_random_state(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global CPU random state from a generator for the block, then put it back as it was."""
    seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@dataclass(frozen=True)
class _Given:
    """What an initialisation may look at."""

    generator: torch.Generator
    sample: Tensor | None
    old: nn.Module | None

    def states(self, init: str, in_features: int) -> Tensor:
        """Return the sample (n, in_features)."""
        sample = self.sample
        if sample is None or sample.ndim != 2 or sample.shape[1] != in_features or not len(sample):
            shape = "none" if sample is None else f"shape {tuple(sample.shape)}"
            raise ProjheadsError(f"init {init} needs a sample of token states (n, {in_features}), got {shape}")
        return sample


def _torch(head: Head, given: _Given) -> None:
    """Keep what the constructors drew."""


def _xavier(head: Head, given: _Given) -> None:
    _draw_matrices(head, lambda matrix: nn.init.xavier_uniform_(matrix, generator=given.generator))


def _orthogonal(head: Head, given: _Given) -> None:
    _draw_matrices(head, lambda matrix: nn.init.orthogonal_(matrix, generator=given.generator))


def _preserve(head: Head, given: _Given) -> None:
    if given.old is None:
        raise ProjheadsError("init preserve needs the old head, whose map the new one takes over")
    folded = fold(given.old)
    take_over(head, folded.weight, folded.bias)


def _pca(head: Head, given: _Given) -> None:
    """Take the principal directions as the map; the largest entry of each is positive, so that signs do not vary."""
    states = functional.normalize(given.states("pca", head.in_features).detach().cpu().double(), dim=-1)
    spread, directions = torch.linalg.eigh(states.T @ states)
    rank = int((spread > _TOLERANCE**2 * spread[-1]).sum())
    if rank < head.out_features:
        raise ProjheadsError(
            f"init pca needs token states that span {head.out_features} directions; these {len(states)} span {rank}"
        )
    directions = directions.T.flip(0)[: head.out_features]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    take_over(head, directions * largest.sign())


def _draw_matrices(head: Head, draw: Callable[[Tensor], Tensor]) -> None:
    for parameter in head.parameters():
        if parameter.ndim >= 2:
            draw(parameter)
    for module in head.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()


def _norm_matched(head: Head, given: _Given) -> None:
    """Scale the output layers until the mean output norm on the sample is the linear head's.

    W uniform in +-1/sqrt(in_features) has E|Wx|^2 = out_features |x|^2 / (3 in_features). That expectation is the
    target, not one draw of W, so that it is the same for every head and every seed.
    """
    sample = given.states("norm-matched", head.in_features)
    name = type(head).__name__
    layers = head.output_layers()
    if not layers:
        raise ProjheadsError(f"init norm-matched: {name} names no output_layers to scale; choose another init")
    sample = sample.to(reference_tensor(head))
    target = sample.norm(dim=-1).mean() * math.sqrt(head.out_features / (3 * head.in_features))
    head.eval()
    for _ in range(_STEPS):
        ratio = float(target / head(sample).norm(dim=-1).mean())
        if not math.isfinite(ratio) or abs(ratio - 1) < _TOLERANCE:
            break
        for layer in layers:
            for parameter in layer.parameters():
                parameter.mul_(ratio)
    head.train()
    if not abs(ratio - 1) < _TOLERANCE:
        raise ProjheadsError(f"init norm-matched: scaling the output layers of {name} does not reach norm {target:.3g}")


_INITS: dict[str, Callable[[Head, _Given], None]] = {
    "torch": _torch,
    "xavier": _xavier,
    "orthogonal": _orthogonal,
    "norm-matched": _norm_matched,
    "pca": _pca,
    "preserve": _preserve,
}
