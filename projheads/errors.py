"""The errors of a user's making: one small hierarchy, one clear line each."""

import difflib
from collections.abc import Iterable

__all__ = ["ProjheadsError", "UnknownNameError", "did_you_mean", "unknown_name"]


class ProjheadsError(ValueError):
    """A mistake in what the user gave: its text is one line that says where it is and what to do.

    It is a ValueError, so that pydantic collects it with the other mistakes of a file. Commands print that line and
    exit with code 2; they show no traceback for it.
    """


class UnknownNameError(ProjheadsError):
    """A name that is not known: of a head, an option, a dataset, a measure or a configuration key."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean "x"?`` for the known name closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Make the error for an unknown name.

    Args:
        kind: What the name stands for, in the singular: ``"head"``, ``"measure"``.
        name: The name as the user wrote it.
        known: The names that would have been accepted.

    Returns:
        An error whose line names what is known and what was probably meant.
    """
    names = sorted(known)
    return UnknownNameError(f'unknown {kind} "{name}"; known: {", ".join(names)}{did_you_mean(name, names)}')
