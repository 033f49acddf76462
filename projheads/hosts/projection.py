"""Where a model in memory has its projection, whatever host it is of; no host is imported here."""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.hosts import HOSTS, attributes, available_hosts
from projheads.hosts.common import as_head

__all__ = ["FoundProjection", "find_projection", "in_sequence"]

LOOKED_FOR = (
    "the Dense modules or the head of a pylate ColBERT or a sentence-transformers MultiVectorEncoder, `linear` of "
    "Stanford's HF_ColBERT, `custom_text_proj` of colpali-engine"
)


@dataclass(frozen=True)
class FoundProjection:
    """A model's projection.

    Attributes:
        head: What projects now, (..., in_features) -> (..., out_features).
        in_features: Width of the token states.
        out_features: Width of a token embedding.
        put: Puts another head in its place.
    """

    head: nn.Module
    in_features: int
    out_features: int
    put: Callable[[Head], None]


def find_projection(model: Any) -> FoundProjection:
    """Find the projection of a host's own model.

    Raises:
        ProjheadsError: If there is none that is known here.
    """
    if isinstance(model, nn.Module):
        for name in available_hosts():
            adapter, package, _ = HOSTS[name]
            # A model of a host exists only where the host has been imported.
            if package.replace("-", "_") in sys.modules:
                found: FoundProjection | None = importlib.import_module(adapter).find_projection(model)
                if found is not None:
                    return found
        place = attributes.find_attribute(model)
        if place is not None:
            return FoundProjection(place.projection, *place.widths, place.put)
    raise ProjheadsError(f"{type(model).__name__} has no projection that is known here; looked for {LOOKED_FOR}")


def in_sequence(
    model: nn.Sequential, projections: Sequence[Any], wrap: Callable[[Head], nn.Module]
) -> FoundProjection | None:
    """Describe the projection modules of a model that is a sequence of modules; None where it has none.

    Args:
        model: The model.
        projections: Its projection modules, in their order.
        wrap: Makes the host's module that holds a head.
    """
    if not projections:
        return None

    def put(head: Head) -> None:
        module = wrap(head).train(head.training)
        kept = {
            name: module if child is projections[0] else child
            for name, child in model.named_children()
            if all(child is not other for other in projections[1:])
        }
        if all(name.isdigit() for name in kept):  # hosts number their modules and count on no gaps
            kept = {str(number): child for number, child in enumerate(kept.values())}
        model._modules.clear()
        model._modules.update(kept)

    return FoundProjection(as_head(list(projections)), projections[0].in_features, projections[-1].out_features, put)
