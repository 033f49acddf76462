"""Atomic writes, JSON files with clear errors, and content hashes.

A file is written under a temporary name in the same folder, flushed to disk and renamed, so a reader sees the old file
or the new one, never part of one.
"""

import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from experiment.disk.lock import lock_now
from projheads.errors import ProjheadsError, cannot_read, parse_json

__all__ = [
    "SCHEMA_VERSION",
    "read_json",
    "remove_leftovers",
    "remove_paths",
    "sha256_file",
    "sha256_json",
    "sha256_parts",
    "temporary_folder",
    "versions",
    "write_bytes",
    "write_folder",
    "write_json",
    "write_parts",
    "write_text",
]

SCHEMA_VERSION = 1
"""Version of every JSON file in an experiment's folder; a newer one is refused."""

TEMPORARY = re.compile(r"\..+\.ph-[0-9a-f]{12}\.tmp")
"""The temporary names of this program, as ``_temporary`` makes them."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically; missing parent folders are created."""
    write_parts(path, [data])


WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of writing to an open file, which do not name it."""


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write ``parts`` to ``path`` one after the other, as they come; the file appears once all are written."""
    with _temporary(path, is_folder=False) as temporary:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as JSON, atomically; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block ends without an error.

    An existing folder at ``path`` is replaced. If the block fails, nothing is left behind.
    """
    with _temporary(path, is_folder=True) as temporary:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                _flush(file)
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside ``path`` that is deleted after the block; if the process is killed, it is a leftover."""
    with _temporary(path, is_folder=True) as temporary:
        yield temporary


def read_json(path: Path) -> Any:
    """Read a JSON file of this program.

    Raises:
        ProjheadsError: If it is missing, is not JSON, or was written by a newer version of this program.
    """
    try:
        value = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise ProjheadsError(f"{path}: no such file") from None
    except ValueError as error:
        raise ProjheadsError(f"{path}: not a JSON file ({error}); delete it and rerun the command") from None
    except OSError as error:
        raise cannot_read(path, error) from None
    version = value.get("schema_version", SCHEMA_VERSION) if isinstance(value, dict) else SCHEMA_VERSION
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ProjheadsError(
            f"{path}: schema version {version} is newer than this program's {SCHEMA_VERSION}; update projheads"
        )
    return value


def sha256_json(value: Any) -> str:
    """Hash a JSON value, regardless of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_parts(parts: Iterable[bytes | memoryview]) -> str:
    """Hash a sequence of byte strings, each after its length, so that different sequences have different hashes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def sha256_file(path: Path) -> str:
    """Hash the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_installed = cache(version)


def versions(packages: Mapping[str, str]) -> dict[str, str]:
    """Return the installed version of each distribution, by the given name; missing ones are left out."""
    found = {}
    for name, distribution in packages.items():
        try:
            found[name] = _installed(distribution)
        except PackageNotFoundError:
            continue
    return found


def remove_paths(paths: Iterable[Path]) -> None:
    """Delete files and folders; missing ones are ignored."""
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_leftovers(folder: Path, *, recursive: bool = True) -> None:
    """Delete the temporary files and folders of this program whose writers are gone.

    A writer locks what it writes, so an entry that can be locked is abandoned, whichever machine or container wrote it.
    """
    _remove_abandoned(folder.rglob(".*.tmp") if recursive else folder.glob(".*.tmp"))


def _remove_abandoned(found: Iterable[Path]) -> None:
    for one in list(found):
        if TEMPORARY.fullmatch(one.name):
            try:
                lock = lock_now(one)
            except OSError:
                continue
            remove_paths([one])
            os.close(lock)


@contextmanager
def _temporary(path: Path, *, is_folder: bool) -> Iterator[Path]:
    """Yield a new temporary file or folder beside ``path``, locked until the block ends and then deleted if left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whichever command writes this path next clears what a killed one left of it.
    _remove_abandoned(path.parent.glob(f".{glob.escape(path.name)}.ph-*.tmp"))
    while True:
        temporary = path.with_name(f".{path.name}.ph-{secrets.token_hex(6)}.tmp")
        temporary.mkdir() if is_folder else temporary.touch(exist_ok=False)
        try:
            lock = lock_now(temporary)
        except (BlockingIOError, FileNotFoundError):
            continue  # ``remove_leftovers`` of another process was faster than the lock.
        except OSError:
            lock = None  # This file system has no locks, so nothing here is ever taken for abandoned.
        if temporary.exists():
            break
        if lock is not None:
            os.close(lock)
    try:
        yield temporary
    except OSError as error:
        if error.errno in WRITE_ERRORS and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        remove_paths([temporary])
        if lock is not None:
            os.close(lock)


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
