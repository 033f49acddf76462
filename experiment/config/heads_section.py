"""The section ``heads`` of an experiment's YAML."""

import itertools
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema

from experiment.config.grid import forward, value_error
from experiment.factors import expand, head_key, is_grid
from experiment.fields import Count, Section
from projheads.build import build_head, sketch_head
from projheads.errors import ProjheadsError, UnknownNameError, unknown_name
from projheads.folding import fold
from projheads.init import find_init, list_inits, take_over
from projheads.registry import check_spec, import_head_file
from projheads.spec import HeadSpec

__all__ = ["HeadsConfig"]

AUTO, BEST, OTHERWISE = "auto", "pca", "torch"
"""The default initialisation, and what it becomes if all variants can take over a map, and if not all can."""

BACKBONE_WIDTH = 768
"""The width that heads are tried with, because that of the backbone is not known yet."""


def _spec(value: Any) -> HeadSpec:
    if not isinstance(value, str | HeadSpec):
        raise ValueError(f'write a head as one string, for example "ffn(depth=2)"; got {value!r}')
    return check_spec(value)


def _is_falling(widths: list[Any]) -> bool:
    numbers = all(type(width) is int and width >= 1 for width in widths)
    return numbers and bool(widths) and all(wide > narrow for wide, narrow in itertools.pairwise(widths))


def _one_width(value: Any) -> Any:
    if isinstance(value, list):
        raise ValueError(f"write one width, or falling widths such as [128, 64, 32]; got {value!r}")
    return value


class _SpecAsText:
    """Makes pydantic read a head from its text form and write it in the same form."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(str)
        return core_schema.no_info_plain_validator_function(_spec, serialization=written)


def _take_over_one_direction(spec: HeadSpec) -> None:
    """Try the simplest map: a head that refuses it refuses every map, because of its form.

    The widths are ones that no option is likely to name, because equal widths change the form of a skip.
    """
    weight = torch.zeros(31, 61)
    weight[0, 0] = 1.0
    take_over(build_head(spec, 61, 31), weight)


def _take_over_all_directions(spec: HeadSpec, out_features: int) -> None:
    """Try a map with as many directions as an embedding has, for which a hidden layer may be too narrow."""
    out_features = min(out_features, BACKBONE_WIDTH)
    take_over(build_head(spec, BACKBONE_WIDTH, out_features), torch.eye(out_features, BACKBONE_WIDTH))


Spec = Annotated[HeadSpec, _SpecAsText]


class HeadsConfig(Section):
    """The heads that are compared.

    Attributes:
        out_features: Width of a token embedding. Falling widths such as ``[128, 64, 32]`` train every head so that its
            first 64 and its first 32 values are embeddings too; the first is the full width, and ``matryoshka`` holds
            the others.
        matryoshka: The narrower widths.
        files: Your own Python files that register heads; ``--heads FILE`` on the command line replaces them.
        init: The initialisation of every head, one of ``projheads.init.list_inits()``. ``auto`` is ``pca`` if every
            variant can take over a linear map. Otherwise it is ``torch`` for all of them, and training says why.
        baseline: The variant that the others are compared with; it is one of ``variants``.
        variants: The heads, each as a spec such as ``ffn(depth=2, activation="gelu")`` or the name of a preset. Braces
            make a grid: ``ffn(depth={2,3}, activation={identity,gelu})`` is four variants and two factors.
        grids: The grids among the variants, of whose factors the report gives the effects; filled in from ``variants``.
    """

    files: tuple[Path, ...] = ()
    out_features: Annotated[Count, BeforeValidator(_one_width)] = 128
    matryoshka: tuple[Count, ...] = ()
    init: str = AUTO
    baseline: Spec = HeadSpec("linear")
    variants: Annotated[tuple[Spec, ...], Field(min_length=1)]
    grids: tuple[str, ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        """All trained widths of a token embedding, the full one first."""
        return (self.out_features, *self.matryoshka)

    @property
    def why_torch(self) -> str | None:
        """Why ``init: auto`` became ``torch``; None if it did not, or if ``init`` was given."""
        refusal = None if "init" in self.model_fields_set or self.init == BEST else self._refusal()
        return refusal and (
            f"heads.init: {self.init} for all variants; it would be {BEST} if all could start from it, but {refusal}"
        )

    def _refusal(self) -> str | None:
        """Return why a variant, the first that refuses, cannot take over a linear map; None if all can."""
        for spec in self.variants:
            try:
                _take_over_one_direction(spec)
                _take_over_all_directions(spec, self.out_features)
            except ProjheadsError as error:
                return str(error)
            except Exception as error:  # the code of a head's own file, which only this asks for a map
                reason = (str(error).splitlines() or [""])[0]
                return f"head {spec} cannot take over a linear map: {type(error).__name__}: {reason}"
        return None

    @model_validator(mode="before")
    @classmethod
    def _split_widths(cls, section: Any) -> Any:
        widths = section.get("out_features") if isinstance(section, dict) else None
        if isinstance(widths, list) and "matryoshka" not in section and _is_falling(widths):
            return {**section, "out_features": widths[0], "matryoshka": widths[1:]}
        return section

    @model_validator(mode="before")
    @classmethod
    def _collect_grids(cls, section: Any) -> Any:
        variants = section.get("variants") if isinstance(section, dict) else None
        grids = [variant for variant in variants if is_grid(variant)] if isinstance(variants, list) else []
        return {**section, "grids": grids} if grids else section

    @field_validator("variants", mode="wrap")
    @classmethod
    def _expanded(cls, variants: Any, read: ValidatorFunctionWrapHandler) -> tuple[HeadSpec, ...]:
        """Read grids as their variants; a mistake in one of these has the place of the grid."""
        if not isinstance(variants, list):
            specs: tuple[HeadSpec, ...] = read(variants)
            return specs
        texts: list[Any] = []
        places: list[int] = []
        mistakes = []
        for place, variant in enumerate(variants):
            try:
                expanded = expand(variant) if is_grid(variant) else [variant]
            except ProjheadsError as error:
                mistakes.append(value_error((place,), variant, str(error)))
                continue
            texts += expanded
            places += [place] * len(expanded)
        if mistakes:
            raise ValidationError.from_exception_data("variants", mistakes)
        try:
            specs = read(texts)
        except ValidationError as error:
            for inner in error.errors():
                at, *rest = inner["loc"] or ("",)
                mistakes.append(forward((places[at], *rest) if isinstance(at, int) else (), inner))
            raise ValidationError.from_exception_data("variants", mistakes) from None
        return specs

    @field_validator("grids")
    @classmethod
    def _among_the_variants(cls, grids: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = {head_key(str(spec)) for spec in info.data.get("variants", ())}
        for grid in grids if known else ():
            missing = [text for text in expand(grid) if head_key(text) not in known]
            if missing:
                raise ValueError(f"{grid} has the variant {missing[0]}, which heads.variants lacks; remove the grid")
        return grids

    @field_validator("matryoshka")
    @classmethod
    def _falling(cls, narrower: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if "out_features" in info.data and not _is_falling([info.data["out_features"], *narrower]):
            raise ValueError(
                f"must be widths that fall from heads.out_features={info.data['out_features']}, not {narrower}"
            )
        return narrower

    @field_validator("init")
    @classmethod
    def _registered(cls, init: str) -> str:
        try:
            return AUTO if init == AUTO else find_init(init).name
        except UnknownNameError:
            raise unknown_name("init", init, [AUTO, *list_inits()]) from None

    @field_validator("files")
    @classmethod
    def _imported(cls, files: tuple[Path, ...]) -> tuple[Path, ...]:
        for file in files:
            if not file.is_file():
                raise ValueError(f"{file}: no such Python file; if it was moved, use --heads FILE")
            import_head_file(file)
        return files

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Register the heads of the files in the process that unpickles the configuration."""
        super().__setstate__(state)
        for file in self.files:
            import_head_file(file)

    @model_validator(mode="after")
    def _resolved(self) -> Self:
        """Replace ``auto`` with what it resolves to, which files, keys and reports then hold."""
        if self.init == AUTO:
            object.__setattr__(self, "init", BEST if self._refusal() is None else OTHERWISE)
            self.model_fields_set.discard("init")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        labels = [str(spec) for spec in self.variants]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"the variant {label} is listed twice; remove one")
        if str(self.baseline) not in labels:
            raise ValueError(f"the baseline {self.baseline} is not among the variants; add it, or set heads.baseline")
        if find_init(self.init).fallback is not None:
            try:
                fold(build_head(self.baseline, 61, 31))
            except ProjheadsError as error:
                raise ValueError(
                    f"init: {self.init} needs a linear baseline, whose map every head starts from ({error})"
                ) from None
        return self

    @field_validator("variants")
    @classmethod
    def _buildable(cls, variants: tuple[HeadSpec, ...], info: ValidationInfo) -> tuple[HeadSpec, ...]:
        init = find_init(info.data["init"]) if info.data.get("init", AUTO) != AUTO else None
        takes_map = init is not None and init.takes_map and init.fallback is None
        problems = []
        for spec in variants:
            try:
                if "out_features" in info.data:
                    sketch_head(spec, BACKBONE_WIDTH, info.data["out_features"])
                build_head(spec, BACKBONE_WIDTH, 128)
                if takes_map:
                    _take_over_one_direction(spec)
            except ProjheadsError as error:
                problems.append(f"{spec}: {error}")
        if problems:
            raise ValueError("; ".join(problems))
        return variants
