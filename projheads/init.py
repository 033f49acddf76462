"""How the first weights of a head are drawn: a choice of its own, apart from the head's form."""

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from projheads.errors import ProjheadsError, unknown_name
from projheads.head import Head, reference_tensor

__all__ = ["initialise", "isolated_random_state", "list_inits"]

_STEPS = 100
_TOLERANCE = 1e-5


def list_inits() -> list[str]:
    """List the initialisations.

    - ``torch``: what the constructors draw; for linear layers uniform in +-1/sqrt(fan_in).
    - ``xavier``: every matrix Glorot-uniform (Glorot and Bengio, 2010), every bias of a linear layer 0.
    - ``orthogonal``: every matrix (semi-)orthogonal (Saxe et al., 2014), every bias of a linear layer 0.
    - ``norm-matched``: ``torch``, then rescaled so that heads of different form start with outputs of the same mean
      L2 norm: the one that a bias-free linear head has.
    """
    return sorted(_INITS)


def initialise(head: Head, init: str, *, generator: torch.Generator, sample: Tensor | None = None) -> None:
    """Give a freshly constructed head its first weights, in place.

    Args:
        head: A head as its constructor left it.
        init: One of :func:`list_inits`.
        generator: The CPU generator that everything is drawn from.
        sample: Token states (n, in_features), needed by ``norm-matched`` and unused otherwise.

    Raises:
        ProjheadsError: If the name is unknown, or the sample is missing, of another width, or can not be matched.
    """
    if init not in _INITS:
        raise unknown_name("init", init, _INITS)
    with torch.no_grad():
        _INITS[init](head, generator, sample)


@contextlib.contextmanager
def isolated_random_state(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global CPU random state from a generator for the block, then put it back as it was."""
    seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _torch(head: Head, generator: torch.Generator, sample: Tensor | None) -> None:
    """Keep what the constructors drew."""


def _xavier(head: Head, generator: torch.Generator, sample: Tensor | None) -> None:
    _draw_matrices(head, lambda matrix: nn.init.xavier_uniform_(matrix, generator=generator))


def _orthogonal(head: Head, generator: torch.Generator, sample: Tensor | None) -> None:
    _draw_matrices(head, lambda matrix: nn.init.orthogonal_(matrix, generator=generator))


def _draw_matrices(head: Head, draw: Callable[[Tensor], Tensor]) -> None:
    for parameter in head.parameters():
        if parameter.ndim >= 2:
            draw(parameter)
    for module in head.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()


def _norm_matched(head: Head, generator: torch.Generator, sample: Tensor | None) -> None:
    """Scale the output layers until the mean output norm on the sample is the linear head's.

    W uniform in +-1/sqrt(in_features) has E|Wx|^2 = out_features |x|^2 / (3 in_features). That expectation is the
    target, not one draw of W, so that it is the same for every head and every seed.
    """
    if sample is None or sample.ndim != 2 or sample.shape[1] != head.in_features or not len(sample):
        shape = "none" if sample is None else f"shape {tuple(sample.shape)}"
        raise ProjheadsError(f"init norm-matched needs a sample of token states (n, {head.in_features}), got {shape}")
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


_INITS: dict[str, Callable[[Head, torch.Generator, Tensor | None], None]] = {
    "torch": _torch,
    "xavier": _xavier,
    "orthogonal": _orthogonal,
    "norm-matched": _norm_matched,
}
