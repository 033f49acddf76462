"""What encoding a data set with a backbone takes, from a few of its texts."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiment.encoding.operations import backbone_of
from experiment.encoding.speed import sample_texts
from experiment.needs import Backbone
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
    seconds, flop, tokens, backbone = 0.0, 0.0, [], backbone_of(model)
    for texts in (queries, documents):
        sample = sample_texts(model, texts, is_query=texts is queries, precision=precision)
        seconds += sample.seconds * len(texts)
        tokens.append(sample.tokens * len(texts))
        flop += backbone.flop(tokens[-1], sample.tokens)
    return EncodingWork(seconds, tokens[0], tokens[1], flop, backbone)
