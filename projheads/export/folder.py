"""A folder that is written whole or not at all."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from projheads.errors import ProjheadsError

__all__ = ["copy_file", "new_folder"]

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``path`` when the block ends without an error.

    Raises:
        ProjheadsError: If something is at ``path``, or the disk is full or can not be written; nothing is left behind.
    """
    if path.exists() or path.is_symlink():
        raise ProjheadsError(f"{path}: exists already; give another folder, or delete it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in sorted(temporary.rglob("*")):
            _flush(file)
        temporary.rename(path)
    except (OSError, SafetensorError) as error:
        # safetensors tells a full disk in its own error, with the number of the system's.
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else getattr(error, "errno", None)
        if code not in _CANNOT_WRITE:
            raise
        raise ProjheadsError(f"{path}: can not be written: {os.strerror(code)}; nothing was left behind") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy_file(file: Path, folder: Path) -> None:
    """Copy a file's bytes into a folder, making it; a link, as in a hub's cache, becomes the file it leads to."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / file.name)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
