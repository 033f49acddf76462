from experiment.collections.model import Collection
from pathlib import Path


def open_pydocs(*, split: str, cache: Path) -> Collection:
    raise NotImplementedError
