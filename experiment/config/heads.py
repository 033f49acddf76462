"""The section ``heads`` of an experiment's YAML."""

from typing import Annotated, Any, Self

import torch
from pydantic import Field, GetCoreSchemaHandler, ValidationInfo, field_validator, model_validator
from pydantic_core import core_schema

from experiment.config.fields import Count, Section
from projheads.build import build_head
from projheads.errors import ProjheadsError, unknown_name
from projheads.init import MAPPED_INITS, list_inits, take_over
from projheads.registry import check_spec
from projheads.spec import HeadSpec

__all__ = ["HeadsConfig"]


def _spec(value: Any) -> HeadSpec:
    if not isinstance(value, str | HeadSpec):
        raise ValueError(f'write a head as one string, for example "ffn(depth=2)"; got {value!r}')
    return check_spec(value)


class _SpecAsText:
    """Tells pydantic that a head is read from its text form and written as it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(str)
        return core_schema.no_info_plain_validator_function(_spec, serialization=written)


def _take_over_one_direction(spec: HeadSpec) -> None:
    """Try the simplest map: a head that refuses it refuses every map, for a reason that lies in its form.

    The widths are such that no option is likely to name them, for equal widths change the form of a skip.
    """
    weight = torch.zeros(31, 61)
    weight[0, 0] = 1.0
    take_over(build_head(spec, 61, 31), weight)


Spec = Annotated[HeadSpec, _SpecAsText]


class HeadsConfig(Section):
    """The heads that are compared.

    Attributes:
        out_features: Width of a token embedding.
        init: Initialisation scheme of every head; see ``projheads.init.list_inits``.
        baseline: The variant that the others are compared with, as it stands in ``variants``.
        variants: The heads, each as a spec such as ``ffn(depth=2, activation="gelu")`` or a preset's name.
    """

    out_features: Count = 128
    init: str = "torch"
    baseline: Spec = HeadSpec("linear")
    variants: Annotated[tuple[Spec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.init not in list_inits():
            raise unknown_name("init", self.init, list_inits())
        labels = [str(spec) for spec in self.variants]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"the variant {label} stands twice; keep one of them")
        if str(self.baseline) not in labels:
            raise ValueError(f"the baseline {self.baseline} is not among the variants; add it, or set heads.baseline")
        return self

    @field_validator("variants")
    @classmethod
    def _buildable(cls, variants: tuple[HeadSpec, ...], info: ValidationInfo) -> tuple[HeadSpec, ...]:
        problems = []
        for spec in variants:
            try:
                build_head(spec, 768, 128)
                if info.data.get("init") in MAPPED_INITS:
                    _take_over_one_direction(spec)
            except ProjheadsError as error:
                problems.append(f"{spec}: {error}")
        if problems:
            raise ValueError("; ".join(problems))
        return variants
