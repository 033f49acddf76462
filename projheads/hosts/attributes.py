"""Libraries whose model keeps its projection in an attribute: Stanford's ColBERT and colpali-engine. Imports neither.

From their sources: ``class_factory`` of colbert-ai 0.2.22 makes a class ``HF_ColBERT`` with ``linear``, a bias-free
layer that ``ColBERT.query`` and ``ColBERT.doc`` call on the backbone's output; ``ColPali``, ``ColQwen2`` and their
relatives of colpali-engine have ``custom_text_proj``, a layer with bias that ``forward`` calls on the last hidden
states. Both normalise its output.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from projheads.errors import ProjheadsError
from projheads.head import Head

__all__ = ["ProjectionAttribute", "find_attribute"]


@dataclass(frozen=True)
class ProjectionAttribute:
    """A module and the name of its attribute that projects."""

    owner: nn.Module
    name: str

    @property
    def projection(self) -> nn.Module:
        """The current projection."""
        projection: nn.Module = getattr(self.owner, self.name)
        return projection

    @property
    def widths(self) -> tuple[int, int]:
        """Width of the token states and of a token embedding."""
        projection: Any = self.projection
        return projection.in_features, projection.out_features

    def put(self, head: Head) -> None:
        """Replace the attribute by a head.

        Raises:
            ProjheadsError: If its embeddings have a different width, which these libraries also store elsewhere.
        """
        width = self.widths[1]
        if head.out_features != width:
            raise ProjheadsError(
                f"head {head.spec}: has out_features={head.out_features}, the model's width is {width}"
            )
        setattr(self.owner, self.name, head)

    def put_linear(self, linear: nn.Linear) -> None:
        """Replace the attribute by one layer, with a bias where the library's own layer has one.

        Raises:
            ProjheadsError: If the layer has a bias and the library's has none.
        """
        if self.name == "linear" and linear.bias is not None:
            raise ProjheadsError("Stanford's ColBERT has no bias in its projection; train a head without one")
        if self.name != "linear" and linear.bias is None:
            linear.bias = nn.Parameter(torch.zeros_like(linear.weight[:, 0]))
        setattr(self.owner, self.name, linear)


def find_attribute(model: nn.Module) -> ProjectionAttribute | None:
    """Find the projection in a model or in one that it wraps; None if there is none."""
    for module in model.modules():
        if any(cls.__name__ == "HF_ColBERT" for cls in type(module).__mro__):
            return ProjectionAttribute(module, "linear")
        if isinstance(module._modules.get("custom_text_proj"), nn.Module):
            return ProjectionAttribute(module, "custom_text_proj")
    return None
