"""What encoding a data set with a backbone takes, from a few of its texts."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from eval.sizes import Backbone
from experiment.encoding.backbone_layers import transformer_layers
from experiment.encoding.speed import sample_texts
from projheads.errors import ProjheadsError
from projheads.hosts.base import HostModel

__all__ = ["EncodingWork", "measure_encoding"]


@dataclass(frozen=True)
class EncodingWork:
    """What encoding a data set with a backbone takes.

    Attributes:
        seconds: How long it takes on this machine.
        query_tokens: Token vectors of all queries.
        document_tokens: Token vectors of all documents.
        flop: Floating-point operations.
        backbone: The backbone.
    """

    seconds: float
    query_tokens: float
    document_tokens: float
    flop: float
    backbone: Backbone


def measure_encoding(
    model: HostModel, queries: Sequence[str], documents: Sequence[str], precision: str
) -> EncodingWork:
    """Encode a few queries and documents with an open model."""
    seconds, flop, tokens, backbone = 0.0, 0.0, [], _backbone(model)
    for texts in (queries, documents):
        sample = sample_texts(model, texts, is_query=texts is queries, precision=precision)
        seconds += sample.seconds * len(texts)
        tokens.append(sample.tokens * len(texts))
        flop += backbone.flop(tokens[-1], sample.tokens)
    return EncodingWork(seconds, tokens[0], tokens[1], flop, backbone)


def _backbone(model: HostModel) -> Backbone:
    tables = [module for module in model.native.modules() if isinstance(module, nn.Embedding)]
    skipped = {id(parameter) for module in (*tables, model.head) for parameter in module.parameters()}
    used = [one for one in model.native.parameters() if one.ndim > 1 and id(one) not in skipped]
    try:
        layers = len(transformer_layers(model.native))
    except ProjheadsError:  # Attention is then left out of the number of operations.
        layers = 0
    return Backbone(sum(one.numel() for one in used), layers, model.in_features)
