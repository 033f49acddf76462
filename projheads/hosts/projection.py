"""The projection of a model in memory, whatever library it comes from; no host is imported here."""

import sys
from typing import Any

from torch import nn

from projheads.errors import ProjheadsError
from projheads.hosts import HOSTS, attributes, available_hosts, load_host
from projheads.hosts.base import FoundProjection

__all__ = ["find_projection"]

LOOKED_FOR = (
    "the Dense modules or the head of a pylate ColBERT or a sentence-transformers MultiVectorEncoder, `linear` of "
    "Stanford's HF_ColBERT, `custom_text_proj` of colpali-engine"
)


def find_projection(model: Any) -> FoundProjection:
    """Find the projection of a host's own model.

    Raises:
        ProjheadsError: If the model has no known projection.
    """
    if isinstance(model, nn.Module):
        for name in available_hosts():
            # A model of a host exists only where the host has been imported.
            if HOSTS[name][0].replace("-", "_") in sys.modules:
                found = load_host(name).find_projection(model)
                if found is not None:
                    return found
        place = attributes.find_attribute(model)
        if place is not None:
            return FoundProjection(place.projection, *place.widths, place.put, place.put_linear)
    raise ProjheadsError(f"{type(model).__name__} has no known projection; looked for {LOOKED_FOR}")
