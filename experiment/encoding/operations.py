"""How many floating-point operations a backbone takes."""

from dataclasses import dataclass

from torch import nn

from experiment.encoding.backbone_layers import transformer_layers
from projheads.errors import ProjheadsError
from projheads.hosts.base import HostModel

__all__ = ["Backbone", "backbone_of"]


@dataclass(frozen=True)
class Backbone:
    """What encoding takes.

    Attributes:
        parameters: Parameters that every token is multiplied with: all but the embedding tables.
        layers: Number of layers.
        width: Width of a token state.
    """

    parameters: float
    layers: int
    width: int

    def flop(self, tokens: float, length: float) -> float:
        """Return the floating-point operations for so many tokens in texts of a length, attention included."""
        return tokens * (2 * self.parameters + 4 * self.layers * self.width * length)


def backbone_of(model: HostModel) -> Backbone:
    """Return what encoding with an open model takes."""
    tables = [module for module in model.native.modules() if isinstance(module, nn.Embedding)]
    skipped = {id(parameter) for module in (*tables, model.head) for parameter in module.parameters()}
    used = [one for one in model.native.parameters() if one.ndim > 1 and id(one) not in skipped]
    try:
        layers = len(transformer_layers(model.native))
    except ProjheadsError:  # Attention is then left out of the number of operations.
        layers = 0
    return Backbone(sum(one.numel() for one in used), layers, model.in_features)
