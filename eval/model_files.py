"""Parts of a saved model that evaluation asks for without opening the whole: its head, and what its backbone is."""

from pathlib import Path

from torch import nn

from experiment.disk.files import sha256_file, sha256_json
from projheads.hosts import model_folder

__all__ = ["BackboneIdentities", "read_head"]


def read_head(model: Path) -> nn.Module:
    """Read the head of a saved model.

    Raises:
        ProjheadsError: If the folder holds no head, or a broken one.
    """
    return model_folder.read_head(model)


class BackboneIdentities:
    """Tells which saved models have the same backbone and read texts the same way.

    Models of one experiment share their weight file by hard links, so a file that was hashed is not read again.
    """

    def __init__(self) -> None:
        self._hashes: dict[tuple[int, int, int], str] = {}

    def of(self, model: Path) -> str:
        """Hash the names and bytes of all files of a saved model but those of its head and its model card."""
        heads = {model / entry.path for entry in model_folder.projections(model)}
        files = [file for file in model.rglob("*") if file.is_file() and heads.isdisjoint(file.parents)]
        named = {file.relative_to(model).as_posix(): self._hash(file) for file in files if file.suffix != ".md"}
        return sha256_json(named)

    def _hash(self, file: Path) -> str:
        status = file.stat()
        key = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = sha256_file(file)
        return self._hashes[key]
