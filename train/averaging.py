"""An exponential moving average of the trained weights: Polyak and Juditsky, 1992; Izmailov et al., 2018."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]

_STEPS = "number of steps"  # no parameter has a name with spaces


class WeightAverage:
    """The average of the trained weights over the steps so far.

    After step t it is decay' * average + (1 - decay') * weights with decay' = min(decay, (t - 1) / t), so that it is
    the plain mean of the first steps and does not remember the start.

    Args:
        trained: The module with the trained parameters; those that it loses during training are ignored.
        decay: The decay; None for no average, where nothing is kept and every method does nothing.

    Attributes:
        weights: The average of each parameter by its name, and the number of steps; empty without an average.
    """

    def __init__(self, trained: nn.Module, decay: float | None) -> None:
        self._trained, self._decay = trained, decay
        self.weights: dict[str, Tensor] = {}
        if decay is not None:
            self.weights = {name: tensor.detach().clone() for name, tensor in self._parameters()}
            self.weights[_STEPS] = torch.zeros((), dtype=torch.float64)

    def update(self) -> None:
        """Add the weights after a step."""
        if self._decay is None:
            return
        steps = self.weights[_STEPS].add_(1)
        share = 1 - min(self._decay, 1 - 1 / float(steps))
        for name, tensor in self._parameters():
            self.weights[name].lerp_(tensor.detach(), share)

    def apply(self) -> None:
        """Set the weights to their average."""
        with torch.no_grad():
            for name, tensor in self._parameters() if self._decay is not None else ():
                tensor.copy_(self.weights[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Set the weights to their average for the block."""
        kept = {name: tensor.detach().clone() for name, tensor in self._parameters()} if self.weights else {}
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in self._parameters() if kept else ():
                    tensor.copy_(kept[name])

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, tensor) for name, tensor in self._trained.named_parameters() if tensor.requires_grad]
