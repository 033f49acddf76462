"""What ends a trial but not the experiment, told in one line."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from projheads.errors import ProjheadsError

__all__ = ["TrainingFailedError", "failures_told"]

LESS_MEMORY = "lower train.batch_size, or set train.mini_batch_size or train.gradient_checkpointing"


class TrainingFailedError(ProjheadsError):
    """A trial that cannot go on, for instance because its loss is no longer finite; other trials can."""


@contextmanager
def failures_told() -> Iterator[None]:
    """Raise what a trial may run into, a full memory or a full disk, as ``TrainingFailedError``.

    Raises:
        TrainingFailedError: In the place of such an error.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingFailedError(f"the device is out of memory; {LESS_MEMORY} ({_first_line(error)})") from error
    except MemoryError as error:
        raise TrainingFailedError(f"the machine is out of memory; {LESS_MEMORY}") from error
    except RuntimeError as error:
        # torch has no class of its own for what malloc refuses on a CPU.
        if "not enough memory" not in str(error):
            raise
        raise TrainingFailedError(f"the machine is out of memory; {LESS_MEMORY} ({_first_line(error)})") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" at {error.filename}" if error.filename else ""
        raise TrainingFailedError(
            f"the disk is full{where}; make room, and the same command goes on with this trial"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
