"""The interface of a head, which hosts, training, folding and checks rely on."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from projheads.errors import ProjheadsError
from projheads.spec import HeadSpec

__all__ = ["Head", "head_label", "reference_tensor"]


class Head(nn.Module):
    """A projection head: maps each token state independently, (..., in_features) -> (..., out_features).

    Subclasses define a constructor ``(in_features, out_features, *, options...)``, ``forward`` and
    ``reset_parameters``. The other methods are optional and declare what else a head supports.

    Attributes:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        spec: The head's name and options; set by :func:`projheads.build.build_head`.
    """

    spec: HeadSpec

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map token states (..., in_features) to token embeddings (..., out_features), before normalisation."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Reinitialise every parameter, as the constructor does."""
        raise NotImplementedError(
            f"{type(self).__name__} has no reset_parameters; define one that reinitialises every parameter"
        )

    def nonlinear_part(self) -> str | None:
        """Name the part that prevents folding into one matrix and bias at inference, or None for a linear head."""
        return f"{type(self).__name__}, which does not declare that it is linear"

    def output_layers(self) -> Sequence[nn.Module]:
        """Return the layers whose outputs sum to the head's output; scaling their parameters scales the embeddings."""
        return ()

    def equal_forms(self) -> Sequence["Head"]:
        """Return heads of the registry that compute the same at inference and may cost less.

        Called in float64 on the CPU. :func:`projheads.reparameterize` takes the cheapest; a linear head need not name
        the matrix that it folds into.
        """
        return ()

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take over a linear map in place: compute weight x + bias at inference, with every parameter still trainable.

        Called with gradients disabled on a newly constructed head. In a branch that must contribute nothing, only the
        last layer is zero, so that every parameter moves within two steps; :mod:`projheads.preserve` has the helpers.

        Args:
            weight: (out_features, in_features) float64 on the CPU.
            bias: (out_features,) float64 on the CPU, or None.

        Raises:
            ProjheadsError: If the head cannot compute the map; the message says why.
        """
        raise ProjheadsError(f"{type(self).__name__} does not implement preserve, so it cannot take over a linear map")

    def layer_gains(self, x: Tensor) -> Sequence[tuple[Tensor, float]]:
        """Return factors of weights that keep the mean square of the states; for the start ``critical``.

        The start makes every matrix of a linear layer (semi-)orthogonal, with gain 1, and multiplies these weights
        afterwards, before the states pass through them. Layers and heads inside this one are asked themselves, when
        the states arrive there. :mod:`projheads.gains` has the gain of an activation.

        Args:
            x: (tokens, in_features) a sample of the states that the head maps.
        """
        return ()

    def convert(self, old: nn.Module) -> None:
        """Take over the weights of a trained head of a different form, in place; for the start ``convert``.

        Called with gradients disabled on a newly constructed head.

        Raises:
            ProjheadsError: If the head cannot; the message says why.
        """
        raise ProjheadsError(f"{type(self).__name__} takes over the weights of no other form")

    def training_progress(self, done: float) -> None:
        """Learn how far the training is; for heads that change while they train.

        Called with 0 before the optimiser is made, so parameters may be added then, and after every step. Called with
        1 after the last step, so parameters may be removed then: the trained head has those that the constructor makes.
        Each stage of a training counts from 0 to 1.

        Args:
            done: Share of the steps that are done, from 0 to 1.
        """

    def training_loss(self, x: Tensor) -> Tensor | None:
        """Return a term that is added to the training loss, or None.

        Args:
            x: (tokens, in_features) token states that the head has just mapped. The trainer averages the term over the
                tokens of a batch.

        Returns:
            A scalar, with gradients.
        """
        return None


def reference_tensor(module: nn.Module) -> Tensor:
    """Return the first parameter or buffer, whose dtype and device represent the module's."""
    return next(itertools.chain(module.parameters(), module.buffers()))


def head_label(module: nn.Module) -> str:
    """Return the name of a head for messages: its spec, or its class if it was not built from a spec."""
    return f"head {getattr(module, 'spec', type(module).__name__)}"
