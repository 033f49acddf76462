"""How a command ends: one clear line for a user error, and an exit code."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from projheads import __version__
from projheads.errors import ProjheadsError, describe_os_error

__all__ = ["READ_AT_IMPORT", "add_json", "add_version", "prepare_process", "print_result", "run_command"]

USER_ERROR, INTERRUPTED = 2, 130

READ_AT_IMPORT = {"OMP_WAIT_POLICY": "PASSIVE", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}
"""What torch reads from the environment when it is imported.

Threads that wait for each other sleep instead of spinning: on a shared machine, spinning makes the small operations of
a training step tens of times slower. And oneDNN keeps 64 compiled matrix products instead of 1,024: it compiles one for
each shape, and the chunks of a corpus keep having new ones.
"""


def prepare_process() -> None:
    """Set :data:`READ_AT_IMPORT` where the user has set nothing; call this first in a command's process."""
    for name, value in READ_AT_IMPORT.items():
        os.environ.setdefault(name, value)


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add ``--version`` to the parser of a command."""
    parser.add_argument("--version", action="version", version=f"projheads {__version__}")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` to the parser of a command; see :func:`print_result`."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, and everything else on the error stream"
    )


def print_result(command: Callable[[], Any], *, as_json: bool) -> Any:
    """Run a command, and print its result as JSON if asked to.

    Args:
        command: Prints what people read, and returns the result as a JSON value; None if there is nothing to print.
        as_json: Whether only the result goes to the output, and what people read to the error stream.

    Returns:
        The result.
    """
    if not as_json:
        return command()
    with contextlib.redirect_stdout(sys.stderr):
        result = command()
    if result is not None:
        print(json.dumps(result, indent=1, ensure_ascii=False))
    return result


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
