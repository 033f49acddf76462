"""What a head may do during training: learn how far it is, and add a term to the loss; see ``projheads.Head``."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from projheads import Head

__all__ = ["LossTerms", "report_progress"]


def report_progress(head: nn.Module, done: float) -> None:
    """Pass the share of the steps that are done, from 0 to 1, to a head and the heads that it contains."""
    for module in list(head.modules()):
        if isinstance(module, Head):
            module.training_progress(done)


class LossTerms:
    """Collects the terms of a head and the heads that it contains, pass by pass.

    Args:
        head: The head.
    """

    def __init__(self, head: nn.Module) -> None:
        heads = [module for module in head.modules() if isinstance(module, Head)]
        self._heads = [module for module in heads if type(module).training_loss is not Head.training_loss]

    @contextmanager
    def collect(self) -> Iterator[list[Tensor]]:
        """Yield a list that holds, after the block, the terms of a forward pass in the block."""
        seen: list[tuple[Head, Tensor]] = []
        terms: list[Tensor] = []

        def keep(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            if isinstance(module, Head):
                seen.append((module, arguments[0]))

        hooks = [head.register_forward_pre_hook(keep) for head in self._heads]
        try:
            yield terms
        finally:
            for hook in hooks:
                hook.remove()
        for head, states in seen:
            term = head.training_loss(states.reshape(-1, head.in_features))
            if term is not None:
                terms.append(term.float())
