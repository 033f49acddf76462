"""How a command ends: one clear line for a user's mistake, and an exit code."""

import errno
import sys
from collections.abc import Callable, Sequence

from projheads.errors import ProjheadsError

__all__ = ["run_command"]

USER_ERROR, INTERRUPTED = 2, 130


def run_command(main: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        main: The command; it gets the arguments without the program's name.
        arguments: The arguments.

    Returns:
        0 when it went well; 2 for a mistake of the user's or a full disk, told in one line on the error stream;
        130 after Ctrl-C.
    """
    try:
        main(arguments)
    except ProjheadsError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        where = f" at {error.filename}" if error.filename else ""
        print(
            f"error: cannot write{where}: {error.strerror}; what is finished is kept, "
            "and the same command goes on once there is room",
            file=sys.stderr,
        )
        return USER_ERROR
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0
