"""Kinds of values that several sections of an experiment's YAML share."""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, PositiveFloat, StrictInt
from pydantic_core import core_schema

from projheads.errors import ProjheadsError, unknown_name

__all__ = ["Count", "Device", "Fraction", "NonNegative", "OneOf", "Positive", "Precision", "Rate", "Section", "Threads"]
__all__ += ["UNUSED_AT_DEFAULT", "check_combinations", "safe_name", "sections_in", "setting_text"]

MOST, MOST_COMBINATIONS = 10**9, 10_000


def _sensible(rate: float) -> float:
    if not 1e-12 <= rate <= 100:
        raise ValueError(f"{rate:g} is out of range for a learning rate; use 1e-12 to 100")
    return rate


Count = Annotated[StrictInt, Field(ge=1, le=MOST)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[PositiveFloat, Field(allow_inf_nan=False)]
Rate = Annotated[Positive, AfterValidator(_sensible)]
Threads = Annotated[StrictInt, Field(ge=1, le=4096)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$")]
UNUSED_AT_DEFAULT = "unused at default"
"""Marks a field of a section that was added after results had been written; see :meth:`Section.key_values`."""
Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Section(BaseModel):
    """A part of the YAML. Unknown keys are errors, and values do not change.

    Defaults are checked like given values, because the resolved file gives them to the next command.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, validate_default=True)

    def key_values(self, exclude: Collection[str] = ()) -> dict[str, Any]:
        """Return the section's JSON values for the key of a result.

        Fields marked :data:`UNUSED_AT_DEFAULT` are left out at their default, so that a new setting does not change the
        keys of results that do not use it.

        Args:
            exclude: Fields that the result does not depend on.
        """
        values = self.model_dump(mode="json", exclude=set(exclude))
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if UNUSED_AT_DEFAULT in field.metadata and value == field.default:
                values.pop(name, None)
            elif isinstance(value, Section) and name in values:
                values[name] = value.key_values()
        return values


@dataclass(frozen=True)
class OneOf:
    """Annotates a field that holds one section of a table, chosen by its key ``name``.

    In YAML a string is short for the section of that name with its defaults.

    Attributes:
        kind: What error messages call the sections, in the singular.
        table: The sections by name. It may grow after the field is declared.
        default: The name if only options are given.
    """

    kind: str
    table: Mapping[str, type[Section]]
    default: str

    def section(self, value: Any) -> type[Section]:
        """Return the section that a value of the YAML chooses.

        Raises:
            UnknownNameError: If the table does not have it.
            ValueError: If the value is neither a string nor a mapping.
        """
        if not isinstance(value, str | dict):
            raise ValueError(f"must be the name of a {self.kind}, or a mapping with the key `name`; got {value!r}")
        name = value if isinstance(value, str) else value.get("name", self.default)
        if not isinstance(name, str) or name not in self.table:
            raise unknown_name(self.kind, str(name), self.table)
        return self.table[name]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Read the field through the table, and write it with all options."""
        written = core_schema.plain_serializer_function_ser_schema(lambda section: section.model_dump(mode="json"))
        return core_schema.no_info_plain_validator_function(self._read, serialization=written)

    def _read(self, value: Any) -> Section:
        if isinstance(value, Section) and type(value) in self.table.values():
            return value
        section = self.section(value)
        return section.model_validate({} if isinstance(value, str) else value)


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """List the sections that a type holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in sections_in(argument)]


def check_combinations(values: Iterable[Sized]) -> None:
    """Check that a grid has a number of combinations that can be trained.

    Raises:
        ProjheadsError: If it has more.
    """
    combinations = math.prod(map(len, values))
    if combinations > MOST_COMBINATIONS:
        raise ProjheadsError(f"has {combinations} combinations; use at most {MOST_COMBINATIONS}")


def safe_name(value: str) -> str:
    """Check that a name can be part of a file name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(f'"{value[:100]}" names a file, so it may hold only letters, digits, ".", "_" and "-"')
    return value


def setting_text(value: Any) -> str:
    """Write a setting for people: as JSON, but a fraction with at most three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value)
