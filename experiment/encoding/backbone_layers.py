"""The layers of a backbone, and a model whose head reads one of them."""

from typing import Any

from torch import nn

from experiment.config import ModelConfig
from projheads import Head, ProjheadsError
from projheads.hosts.base import Host, HostModel

__all__ = ["create_model", "transformer_layers"]


def transformer_layers(backbone: nn.Module) -> nn.ModuleList:
    """Return a backbone's list of layers.

    Raises:
        ProjheadsError: If no list of modules has as many entries as its configuration has layers.
    """
    return _find(backbone)[1]


def create_model(host: Host, config: ModelConfig, head: Head, device: str = "cpu") -> HostModel:
    """Make a model with a head on the pretrained backbone, without the layers above ``model.layer``.

    These layers are neither computed nor saved. What follows the last layer, such as a final norm, stays.

    Raises:
        ProjheadsError: If the backbone cannot be opened, or has fewer layers.
    """
    model = host.create(config.backbone, head, config.settings(), device=device)
    if config.layer is not None:
        module, layers = _find(next(iter(model.native.children())))
        if config.layer > len(layers):
            raise ProjheadsError(
                f"model.layer: {config.layer} is above the last of the backbone's {len(layers)} layers"
            )
        del layers[config.layer :]
        settings = module.config
        settings.num_hidden_layers = config.layer
        if getattr(settings, "layer_types", None):
            settings.layer_types = settings.layer_types[: config.layer]
    return model


def _find(backbone: nn.Module) -> tuple[Any, nn.ModuleList]:
    for module in backbone.modules():
        wanted = getattr(getattr(module, "config", None), "num_hidden_layers", None)
        if wanted is not None:
            for child in module.modules():
                if isinstance(child, nn.ModuleList) and len(child) == wanted:
                    return module, child
    raise ProjheadsError(
        "the layers of this backbone cannot be found; leave model.layer unset, and set train.trainable to head or all"
    )
