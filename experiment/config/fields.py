"""Kinds of values that several sections of an experiment's YAML share."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, StrictInt

__all__ = ["Count", "Fraction", "NonNegative", "Positive", "Precision", "Section", "safe_name"]

Count = Annotated[StrictInt, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[PositiveFloat, Field(allow_inf_nan=False)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Section(BaseModel):
    """A part of the YAML: its keys are known, and its values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def safe_name(value: str) -> str:
    """Check that a name can stand in the name of a file."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(f'"{value}" names a file, so it may hold letters, digits, ".", "_" and "-" only')
    return value
