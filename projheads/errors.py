"""User errors: a small hierarchy, with one clear line per error."""

import difflib
import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = [
    "ProjheadsError",
    "UnknownNameError",
    "cannot_read",
    "describe_os_error",
    "did_you_mean",
    "is_disk_full",
    "parse_json",
    "unknown_name",
]


class ProjheadsError(ValueError):
    """An error in the user's input; the message is one line that says what is wrong, where, and what to do.

    It is a ValueError so that pydantic reports it together with the other errors in a file. Commands print the line
    without a traceback and exit with code 2.
    """


class UnknownNameError(ProjheadsError):
    """An unknown name: of a head, option, dataset, measure or configuration key."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean "x"?`` for the known name closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for an unknown name.

    Args:
        kind: What is named, in the singular: ``"head"``, ``"measure"``.
        name: The name as the user wrote it.
        known: The accepted names.

    Returns:
        An error that lists the known names and suggests the closest one.
    """
    names = sorted(known)
    return UnknownNameError(f'unknown {kind} "{name}"; known: {", ".join(names)}{did_you_mean(name, names)}')


def cannot_read(path: Path, error: Exception, what: str = "") -> ProjheadsError:
    """Return the error for a file that cannot be read, or not as ``what``, with the reason in one line."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    as_what = f" as {what}" if what else ""
    return ProjheadsError(f"{_printable(path)}: cannot be read{as_what} ({' '.join(str(reason).split())})")


def is_disk_full(error: OSError) -> bool:
    """Return whether an error means that the disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def describe_os_error(error: OSError) -> str:
    """Describe an error of the operating system, or one that a library reports like that, in one line."""
    where = "".join(f"{_printable(name)}: " for name in (error.filename, error.filename2) if name is not None)
    what = " ".join(str(error.strerror or error).split()) or type(error).__name__
    if error.errno == errno.EEXIST:
        what = "exists and is not a folder"
    if is_disk_full(error):
        return f"{where}{what}; free some space and rerun the same command: it keeps what is finished and resumes"
    return f"{where}{what}; finished work is kept"


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: If it is not JSON in UTF-8, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _printable(name: object) -> str:
    text = os.fsdecode(name) if isinstance(name, bytes) else str(name)
    return text if text.isprintable() else ascii(text)
