"""What is evaluated: the trials of an experiment and its reference rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from eval.bm25 import BM25_SETTINGS
from experiment.config import ExperimentConfig
from experiment.folder import SCHEMA_VERSION, ExperimentFolder, TrialFolder, read_json, sha256_json, write_json
from projheads.errors import ProjheadsError

__all__ = ["Subject", "list_subjects"]

DESCRIPTIONS = {
    "bm25": "BM25 over whole words ({})",
    "backbone": "normalised token states of the backbone, without a head",
}


@dataclass(frozen=True)
class Subject:
    """A trial or a reference row.

    Attributes:
        name: As a person reads it.
        folder: Where its files lie.
        identity: Content hash of what it is; another identity is evaluated anew.
        kind: ``model`` for a whole model, ``backbone`` for its token states, ``bm25``.
        model: The model's folder; None for BM25.
        host: The host that opens it; empty for BM25.
        frozen: Whether the model shares its backbone with others, so that its token states are worth keeping.
    """

    name: str
    folder: TrialFolder
    identity: str
    kind: str
    model: Path
    host: str
    frozen: bool
