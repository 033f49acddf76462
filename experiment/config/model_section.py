"""The section ``model`` of an experiment's YAML."""

import string
from typing import Annotated, Literal

from pydantic import StrictBool

from experiment.fields import UNUSED_AT_DEFAULT, Count, Section
from projheads.hosts.base import EncodingSettings

__all__ = ["ModelConfig"]


class ModelConfig(Section):
    """The backbone and how it reads texts; see ``projheads.hosts.base.EncodingSettings`` for the other fields.

    Attributes:
        host: The library that models are made with; ``auto`` for the first that is installed, PyLate before
            sentence-transformers.
        backbone: A folder of transformers or sentence-transformers, or a hub name.
        layer: The backbone's layer that the head reads, from 1; the layers above are neither computed nor saved. None
            for the last.
    """

    host: Literal["auto", "pylate", "sentence-transformers"] = "auto"
    backbone: str = "sentence-transformers/all-MiniLM-L6-v2"
    layer: Annotated[Count | None, UNUSED_AT_DEFAULT] = None
    revision: str | None = None
    query_length: Count = 32
    document_length: Count = 180
    query_prefix: str = "[Q] "
    document_prefix: str = "[D] "
    query_expansion: StrictBool = True
    attend_to_expansion_tokens: StrictBool = False
    skiplist: tuple[str, ...] = tuple(string.punctuation)
    trust_remote_code: StrictBool = False

    def settings(self) -> EncodingSettings:
        """Return the part that the host adapter needs."""
        return EncodingSettings(**self.model_dump(exclude={"host", "backbone", "layer"}))
