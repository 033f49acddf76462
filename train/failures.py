"""Errors that end a trial but not the experiment, each in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from projheads.errors import ProjheadsError, describe_os_error, is_disk_full

__all__ = ["TrainingFailedError", "trial_errors"]

LESS_MEMORY = "lower train.batch_size, or set train.mini_batch_size or train.gradient_checkpointing"


class TrainingFailedError(ProjheadsError):
    """A trial cannot continue, for instance because its loss is no longer finite; the other trials still run."""


@contextmanager
def trial_errors() -> Iterator[None]:
    """Turn out-of-memory and full-disk errors into ``TrainingFailedError``.

    Raises:
        TrainingFailedError: Instead of such an error.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingFailedError(f"the device is out of memory; {LESS_MEMORY} ({_first_line(error)})") from error
    except MemoryError as error:
        raise TrainingFailedError(f"the machine is out of memory; {LESS_MEMORY}") from error
    except RuntimeError as error:
        # torch raises a plain RuntimeError when malloc fails on a CPU.
        if "not enough memory" not in str(error):
            raise
        raise TrainingFailedError(f"the machine is out of memory; {LESS_MEMORY} ({_first_line(error)})") from error
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise TrainingFailedError(describe_os_error(error)) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
