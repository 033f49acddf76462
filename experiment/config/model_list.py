"""Which model folders are evaluated, and how: the counterpart of an experiment's YAML for ``eval --model``."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictBool, ValidationInfo, field_validator

from experiment.config.eval_section import EvalConfig
from experiment.fields import Device, Section, Threads
from projheads.hosts.base import OpenOptions

__all__ = ["GivenModelsConfig"]


class GivenModelsConfig(Section):
    """The evaluation of models outside an experiment.

    Attributes:
        models: Model folders and hub names, each as NAME or NAME@REVISION; the others are compared with the first.
        output: Folder of the results; results that are already there are not computed again.
        cache: Folder for collections and embeddings.
        host: The host that opens the models; ``auto`` is the one that wrote each.
        trust_remote_code: Whether code that comes with a model may run, or a list of the models whose code may.
        device: As in an experiment.
        threads: As in an experiment.
        eval: As in an experiment, but without reference rows.
    """

    models: Annotated[tuple[str, ...], Field(min_length=1)]
    output: Path = Path("outputs/models")
    cache: Path = Path("outputs/.cache")
    host: Literal["auto", "pylate", "sentence-transformers"] = "auto"
    trust_remote_code: StrictBool | tuple[str, ...] = False
    device: Device = "auto"
    threads: Threads | None = None
    eval: EvalConfig

    @field_validator("models")
    @classmethod
    def _distinct(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(models)) < len(models):
            raise ValueError("a model is listed twice; remove one")
        return models

    @field_validator("trust_remote_code")
    @classmethod
    def _listed(cls, trusted: bool | tuple[str, ...], info: ValidationInfo) -> bool | tuple[str, ...]:
        unknown = (
            []
            if isinstance(trusted, bool)
            else [name for name in trusted if name not in info.data.get("models", trusted)]
        )
        if unknown:
            raise ValueError(f'"{unknown[0]}" is not one of the models')
        return trusted

    def opened(self, model: str) -> tuple[str, OpenOptions]:
        """Return the folder or hub name of one of ``models``, and how it may be opened."""
        name, _, revision = model.partition("@")
        if Path(model).expanduser().exists():  # no hub name contains an @, but the path of a folder may
            name, revision = model, ""
        trusted = self.trust_remote_code
        return name, OpenOptions(revision or None, trusted if isinstance(trusted, bool) else model in trusted)

    @field_validator("eval")
    @classmethod
    def _no_references(cls, settings: EvalConfig) -> EvalConfig:
        if settings.references:
            raise ValueError("reference rows belong to an experiment; remove eval.references")
        return settings
