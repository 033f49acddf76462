"""What a backbone takes: read off an open model."""

from torch import nn

from experiment.encoding.backbone_layers import transformer_layers
from experiment.needs import Backbone
from projheads.errors import ProjheadsError
from projheads.hosts.base import HostModel

__all__ = ["backbone_of"]


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
