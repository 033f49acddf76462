"""An experiment's folder on disk: where each file lies, and how it is written whole or not at all.

Training and evaluation meet in these files and nowhere else. A file is written under a temporary name in the folder
where it belongs, flushed to the disk and renamed, so a reader sees the old file or the new one and never a part.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from projheads.errors import ProjheadsError

__all__ = [
    "SCHEMA_VERSION",
    "ExperimentFolder",
    "TrialFolder",
    "read_json",
    "sha256_file",
    "sha256_json",
    "versions",
    "write_bytes",
    "write_folder",
    "write_json",
    "write_parts",
    "write_text",
]

SCHEMA_VERSION = 1
"""Version of every JSON file in an experiment's folder; a reader refuses a newer one."""

LEFTOVERS = ".*.tmp"
"""What is being written, or was left so; as ``_temporary`` calls it."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` whole or not at all, making the folder where it lies."""
    write_parts(path, [data])


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write ``parts`` to ``path``, one behind the other as they come, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as JSON, whole or not at all; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``path`` when the block ends without an error.

    An older folder at ``path`` is replaced. When the block fails, nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                _flush(file)
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_json(path: Path) -> Any:
    """Read a JSON file of this program.

    Raises:
        ProjheadsError: If it is missing, is not JSON, or was written by a newer version of this program.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProjheadsError(f"{path}: there is no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ProjheadsError(f"{path}: not a JSON file ({error}); delete it and run the same command again") from None
    version = value.get("schema_version", SCHEMA_VERSION) if isinstance(value, dict) else SCHEMA_VERSION
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ProjheadsError(
            f"{path}: schema version {version} is newer than this program's {SCHEMA_VERSION}; update projheads"
        )
    return value


def sha256_json(value: Any) -> str:
    """Hash a JSON value; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_file(path: Path) -> str:
    """Hash the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class TrialFolder:
    """Where the files of one trial, or of one reference row, lie."""

    path: Path

    @property
    def trial_json(self) -> Path:
        """What the trial was, how it went and what it cost."""
        return self.path / "trial.json"

    @property
    def reference_json(self) -> Path:
        """What the reference row is; only in the folders of reference rows."""
        return self.path / "reference.json"

    @property
    def train_jsonl(self) -> Path:
        """One line a logged step."""
        return self.path / "train.jsonl"

    @property
    def model(self) -> Path:
        """The model, as the host opens it."""
        return self.path / "model"

    @property
    def checkpoint(self) -> Path:
        """Points in the middle of the training; gone once the trial is finished."""
        return self.path / "checkpoint"

    def eval_json(self, dataset: str) -> Path:
        """Per-query measures on a data set, by the name that the configuration gives it."""
        return self.evaluations / f"{dataset}.json"

    def eval_run(self, dataset: str) -> Path:
        """The TREC run file on a data set."""
        return self.evaluations / f"{dataset}.run"

    @property
    def evaluations(self) -> Path:
        """Folder of the evaluations on all data sets."""
        return self.path / "eval"

    def remove_leftovers(self) -> None:
        """Delete what a killed evaluation left half-written; call it only while no other one works here."""
        _remove_leftovers(self.evaluations.glob(LEFTOVERS))

    def read_trial(self) -> dict[str, Any] | None:
        """Return trial.json, or None where the trial was not finished."""
        return read_json(self.trial_json) if self.trial_json.exists() else None


@dataclass(frozen=True)
class ExperimentFolder:
    """Where the files of one experiment lie."""

    path: Path

    @property
    def experiment_yaml(self) -> Path:
        """The resolved configuration: every default written out."""
        return self.path / "experiment.yaml"

    @property
    def evaluation_yaml(self) -> Path:
        """Which checkpoints were evaluated last, and how; only in a folder of checkpoints."""
        return self.path / "evaluation.yaml"

    @property
    def report(self) -> Path:
        """The folder of the leaderboard."""
        return self.path / "report"

    def texts_json(self, dataset: str) -> Path:
        """Texts of a data set's queries and of the documents that stand high in some run."""
        return self.path / "texts" / f"{dataset}.json"

    def trial(self, slug: str, seed: int) -> TrialFolder:
        """Return the folder of one trial."""
        return TrialFolder(self.path / "trials" / slug / f"seed-{seed}")

    def candidate(self, slug: str, point: str, seed: int) -> TrialFolder:
        """Return the folder of one trial of a sweep, by the name of its point."""
        return TrialFolder(self.path / "sweep" / slug / point / f"seed-{seed}")

    def models(self) -> list[Path]:
        """List the saved models, in the order of their names."""
        return sorted([*self.path.glob("*/*/seed-*/model"), *self.path.glob("sweep/*/*/seed-*/model")])

    def reference(self, name: str, seed: int = 0) -> TrialFolder:
        """Return the folder of one reference row."""
        return TrialFolder(self.path / "references" / name / f"seed-{seed}")

    def remove_leftovers(self) -> None:
        """Delete what a killed training left half-written; call it only while no other one works here.

        What evaluations and reports write is left alone: they may be at it.
        """
        _remove_leftovers(
            found
            for found in self.path.rglob(LEFTOVERS)
            if found.parent.name != "eval" and found.parent not in (self.report, self.path / "texts")
        )

    def trials(self) -> list[TrialFolder]:
        """List the trials with a trial.json, in the order of their names."""
        return [TrialFolder(file.parent) for file in sorted(self.path.glob("trials/*/seed-*/trial.json"))]

    def references(self) -> list[TrialFolder]:
        """List the reference rows with a reference.json, in the order of their names."""
        return [TrialFolder(file.parent) for file in sorted(self.path.glob("references/*/seed-*/reference.json"))]


def versions(packages: Mapping[str, str]) -> dict[str, str]:
    """Return the installed version of each distribution, by the name given to it; those missing are left out."""
    found = {}
    for name, distribution in packages.items():
        try:
            found[name] = version(distribution)
        except PackageNotFoundError:
            continue
    return found


def _remove_leftovers(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
