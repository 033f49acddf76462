"""What all records have in common: a JSON file that is checked when it is made and when it is read."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experiment.disk.files import SCHEMA_VERSION, write_json
from projheads.errors import ProjheadsError

__all__ = ["Count", "Part", "Record", "Scores", "mistake"]

Count = Annotated[int, Field(ge=0)]
Scores = Annotated[dict[str, float], Field(min_length=1)]


class Part(BaseModel):
    """A part of a record: its fields are known, and its values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values, checked like the first."""
        return type(self)(**{**dict(self), **changes})


class Record(Part):
    """A JSON file."""

    written_by: ClassVar[str]
    """The command that writes the file again once it is deleted."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            ProjheadsError: If it is missing, damaged, or written by a newer version of this program.
        """
        record = cls.find(path)
        if record is None:
            raise ProjheadsError(f"{path}: file not found; run {cls.written_by}")
        return record

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """Read the file; None if it does not exist.

        Raises:
            ProjheadsError: If it is damaged, or written by a newer version of this program.
        """
        repair = f"delete it and rerun {cls.written_by}"
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ProjheadsError(f"{path}: cannot be read ({error.strerror}); {repair}") from None
        except ValidationError as error:
            for one in error.errors():
                if one["type"] == "less_than_equal" and one["loc"] == ("schema_version",):
                    raise ProjheadsError(
                        f"{path}: schema version {one['input']} is newer than this program's {SCHEMA_VERSION}; "
                        "update projheads"
                    ) from None
            raise ProjheadsError(f"{path}: {mistake(error)}; {repair}") from None

    def write(self, path: Path) -> None:
        """Write the file, completely or not at all."""
        write_json(path, self.model_dump())


def mistake(error: ValidationError) -> str:
    """Return in one line what is wrong with a record: the first mistake, and its field."""
    first = error.errors()[0]
    where, kind, given = ".".join(map(str, first["loc"])), first["type"], first["input"]
    if kind == "json_invalid":
        what = f"not a JSON file ({first['ctx']['error']})"
    elif kind == "missing":
        what = f"has no {where}"
    elif kind == "extra_forbidden":
        what = f"has an unknown field {where}"
    elif kind == "value_error":
        what = str(first["ctx"]["error"])
    elif not where:
        what = "not a JSON object"
    else:
        what = f"{where}: {first['msg'].replace('Input should', 'must')}, not {repr(given)[:60]}"
    return " ".join(what.split())
