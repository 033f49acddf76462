"""Write a folder completely or not at all."""

import errno
import fcntl
import glob
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from projheads.errors import ProjheadsError
from projheads.hosts.base import StrPath

__all__ = ["copy_files", "new_folder"]

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""What only a write can meet, even if the error names the file that was copied."""


@contextmanager
def new_folder(path: StrPath) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block ends without an error.

    Raises:
        ProjheadsError: If ``path`` exists, or the disk is full or not writable; nothing is left behind.
    """
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise ProjheadsError(f"{path}: already exists; choose a different folder or delete it first")
    _remove_abandoned(path)
    # A process ID would not do: two containers that share the folder may have the same.
    temporary, lock = path.with_name(f".{path.name}.ph-{secrets.token_hex(6)}.tmp"), None
    try:
        temporary.mkdir(parents=True)
        lock = _lock(temporary)
        yield temporary
        for file in sorted(temporary.rglob("*")):
            _flush(file)
        temporary.rename(path)
    except (OSError, SafetensorError) as error:
        # safetensors reports a full disk with its own error class, whose message contains the system's error number.
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else getattr(error, "errno", None)
        read = getattr(error, "filename", None)
        written_to = read is None or Path(os.fsdecode(read)).is_relative_to(path.parent) or code in _CANNOT_WRITE
        if code is None or not written_to:
            raise
        raise ProjheadsError(f"{path}: cannot be written: {os.strerror(code)}; nothing was left behind") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _remove_abandoned(path: Path) -> None:
    """Delete what killed processes left of ``path``: living ones hold a lock."""
    for found in path.parent.glob(f".{glob.escape(path.name)}.ph-*.tmp"):
        lock = _lock(found) if re.fullmatch(r"ph-[0-9a-f]{12}", found.name.split(".")[-2]) else None
        if lock is not None:
            shutil.rmtree(found, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder; None if another process holds it, or the system has no locks."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def copy_files(source: Path, folder: Path, *, code: bool) -> None:
    """Copy the files at the top of a folder into one that is created; links, as in a hub cache, become files.

    Subfolders, which hold other modules or other forms such as onnx/, and hidden files are left out.

    Args:
        source: The folder to copy from.
        folder: The folder to copy to.
        code: Whether Python files are copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        if file.is_file() and not file.name.startswith(".") and (code or file.suffix != ".py"):
            shutil.copyfile(file, folder / file.name)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
