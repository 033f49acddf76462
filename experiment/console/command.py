"""How a command ends: one clear line for a user error, and an exit code."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from projheads import __version__
from projheads.errors import ProjheadsError, describe_os_error

__all__ = ["add_version", "prepare_process", "run_command"]

USER_ERROR, INTERRUPTED = 2, 130


def prepare_process() -> None:
    """Set what torch reads from the environment when it is imported; call this first in a command's process.

    Threads that wait for each other then sleep instead of spinning. On a shared machine, spinning makes the small
    operations of a training step tens of times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add ``--version`` to the parser of a command."""
    parser.add_argument("--version", action="version", version=f"projheads {__version__}")


def run_command(main: Callable[[Sequence[str]], int | None], arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        main: The command; it is called with the arguments without the program's name.
        arguments: The arguments.

    Returns:
        What ``main`` returns, 0 for None; 2 after a user error or a failed read or write, with one line on the error
        stream; 130 after Ctrl-C.
    """
    try:
        return main(arguments) or 0
    except ProjheadsError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:
        if error.errno is None:  # raised by a library, not by the operating system
            raise
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("stopped; rerun the same command to resume", file=sys.stderr)
        return INTERRUPTED
