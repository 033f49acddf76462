"""What the report needs of an experiment's stored configuration; anything else in the file is ignored."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from experiment.disk.layout import ExperimentFolder
from experiment.disk.record import mistake
from experiment.disk.yaml12 import read_yaml_file
from projheads.errors import ProjheadsError

__all__ = ["StoredConfig", "StoredModel", "read_stored_config"]

Values = TypeVar("Values")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)


class _Dataset(_Part):
    name: str
    source: str = ""
    group: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"name": value, "source": value} if isinstance(value, str) else value


class _Eval(_Part):
    datasets: tuple[_Dataset, ...] = ()
    measures: tuple[str, ...] = ()


class _Heads(_Part):
    variants: tuple[str, ...] | None = None
    grids: tuple[str, ...] = ()


class StoredModel(_Part):
    """The lengths that texts were cut to."""

    query_length: int | None = None
    document_length: int | None = None


class _Optimizer(_Part):
    head_lr: float | None = None


class _Train(_Part):
    optimizer: _Optimizer = _Optimizer()


class StoredConfig(_Part):
    """An experiment's configuration, or that of an evaluation of given models, for which ``models`` is set.

    Attributes:
        text: The file's content; empty if there is none.
    """

    text: str = ""
    name: str | None = None
    description: str = ""
    models: tuple[str, ...] | None = None
    question: dict[str, Any] | None = None
    axes: dict[str, list[Any]] = {}
    model: StoredModel = StoredModel()
    heads: _Heads = _Heads()
    train: _Train = _Train()
    eval: _Eval = _Eval()


def read_stored_config(folder: ExperimentFolder) -> StoredConfig:
    """Read the configuration in a folder; an empty one if it has none.

    Raises:
        ProjheadsError: If the file is damaged; the line says how to write it again.
    """
    given = folder.evaluation_yaml.exists()
    path = folder.evaluation_yaml if given else folder.experiment_yaml
    if not path.exists():
        return StoredConfig()
    try:
        text, values, _ = read_yaml_file(path)
        return StoredConfig.model_validate({**_mapping(path, values), "text": text})
    except ValidationError as error:
        what = f"{path}: {mistake(error)}"
    except ProjheadsError as error:
        what = str(error)
    raise ProjheadsError(f"{what}; {folder.remake(path)}")


def _mapping(path: Path, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ProjheadsError(f"{path}: must be a mapping of keys to values")
    return values
