"""Files written whole or not at all, JSON read back with one clear line where it is broken, and content hashes.

A file is written under a temporary name in its own folder, flushed to disk and renamed, so a reader sees the old file
or the new one, never part of one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from projheads.errors import ProjheadsError

__all__ = [
    "LEFTOVERS",
    "SCHEMA_VERSION",
    "read_json",
    "remove_paths",
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
"""Version of every JSON file in an experiment's folder; a newer one is refused."""

LEFTOVERS = ".*.tmp"
"""Pattern of temporary names, as ``_temporary`` makes them."""


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


def versions(packages: Mapping[str, str]) -> dict[str, str]:
    """Return the installed version of each distribution, by the name given to it; those missing are left out."""
    found = {}
    for name, distribution in packages.items():
        try:
            found[name] = version(distribution)
        except PackageNotFoundError:
            continue
    return found


def remove_paths(paths: Iterable[Path]) -> None:
    """Delete files and folders; those that are gone already are ignored."""
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
