"""What the evaluation of one data set takes, stored and streamed: plain arithmetic, from measured or stated numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiment.encoding.windows import SEARCHED_BYTES, SLICE, WINDOW
from experiment.needs import Need, process_bytes

__all__ = ["Heads", "Work", "stored_need", "streamed_need"]

BYTES_PER_SEARCHED, BYTES_PER_SCORE = 6, 8
"""A number of a document or query vector that is searched, with its copy, and a score with its place."""

BYTES_PER_PRIORITY = 8
PART_BYTES = 12
"""A document in a ranking: its place and its score."""

WINDOW_IN_MEMORY = 2**30
"""Bytes of a window's vectors beyond which they are in a temporary file."""


@dataclass(frozen=True)
class Work:
    """A corpus and its queries, as a backbone reads them.

    Attributes:
        documents: How many documents there are.
        document_tokens: Their token vectors.
        queries: How many queries there are.
        query_tokens: Their token vectors.
        flop: Floating-point operations to encode all of them once.
        width: Width of a token state.
        depth: Documents kept for each query.
        number_bytes: Bytes of a number of a kept vector.
        text_bytes: Memory of the texts; 0 if they are read from a file by chunk.
        threads: Threads that encode.
    """

    documents: int
    document_tokens: float
    queries: int
    query_tokens: float
    flop: float
    width: int
    depth: int = 100
    number_bytes: int = 2
    text_bytes: float = 0.0
    threads: int = 1


@dataclass(frozen=True)
class Heads:
    """What is searched with one backbone.

    Attributes:
        out_features: Width of the token embeddings of each search.
        multiply_adds: Multiply-adds of the heads of all searches for one token.
        frozen: Whether all searches share the token states.
        backbones: Number of backbones; 1 if they are frozen.
    """

    out_features: Sequence[int]
    multiply_adds: float
    frozen: bool
    backbones: int = 1


def stored_need(work: Work, heads: Heads) -> Need:
    """Return what it takes to store what the backbone makes of the corpus before it is searched."""
    vector = work.document_tokens * work.number_bytes
    disk = vector * (work.width * heads.frozen + max(heads.out_features))
    memory = process_bytes(work.threads) + _search(work, heads, work.document_tokens) + _texts(work)
    return Need(disk, memory, _flop(work, heads), work.flop if heads.frozen else 0.0)


def streamed_need(work: Work, heads: Heads) -> Need:
    """Return what it takes to go through the corpus once, window by window; the disk is that of one worker."""
    results = work.queries * work.depth * PART_BYTES * (len(heads.out_features) if heads.frozen else 1)
    rows = work.document_tokens / max(1, work.documents) * min(WINDOW, work.documents)
    window = rows * work.number_bytes * (work.width if heads.frozen else max(heads.out_features))
    embeddings = min(rows, SLICE) * work.number_bytes * max(heads.out_features) * heads.frozen
    in_file = window if window > WINDOW_IN_MEMORY else 0.0
    # Token states of the queries and the embeddings of every head, or the embeddings of one model.
    widths = work.width + sum(heads.out_features) if heads.frozen else max(heads.out_features)
    queries = work.query_tokens * work.number_bytes * widths
    # A part, the copy that a chunk is added to, and its bytes.
    memory = process_bytes(work.threads) + _search(work, heads, min(rows, SLICE)) + window - in_file + embeddings
    return Need(2.0 * results + queries + in_file, memory + 3 * results + _texts(work), _flop(work, heads))


def _search(work: Work, heads: Heads, rows: float) -> float:
    """Return the memory of searching so many document vectors, in windows."""
    widest = max(heads.out_features)
    rows = min(rows, SEARCHED_BYTES / (4 * widest))
    scores = work.queries * rows * work.documents / max(1.0, work.document_tokens)
    return (rows + work.query_tokens) * widest * BYTES_PER_SEARCHED + scores * BYTES_PER_SCORE


def _texts(work: Work) -> float:
    """Return the memory that grows with the corpus: the priority of each document, and the texts if they are kept."""
    return work.documents * BYTES_PER_PRIORITY + work.text_bytes


def _flop(work: Work, heads: Heads) -> float:
    tokens = work.query_tokens + work.document_tokens
    encoding = work.flop * heads.backbones
    products = sum(heads.out_features) * work.query_tokens * work.document_tokens
    return encoding + 2 * (products + heads.multiply_adds * tokens)
