"""How hosts and transformers are called: without progress bars, and from a seed."""

import contextlib
import logging
from collections.abc import Iterator

import torch

from projheads.init import isolated_random_state

__all__ = ["quiet", "seeded"]


def seeded(seed: int) -> contextlib.AbstractContextManager[None]:
    """Let a host draw from a seed of ours; torch's global random state is restored afterwards."""
    return isolated_random_state(torch.Generator().manual_seed(seed))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bars of transformers and the hosts' warnings off the terminal."""
    from transformers.utils import logging as transformers_logging

    had_bars = transformers_logging.is_progress_bar_enabled()
    handlers = list(logging.getLogger("transformers").handlers)
    transformers_logging.disable_progress_bar()
    for handler in handlers:
        handler.addFilter(_is_error)
    levels = {name: logging.getLogger(name).level for name in ("pylate", "sentence_transformers")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for handler in handlers:
            handler.removeFilter(_is_error)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
