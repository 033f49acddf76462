"""Which saved models share a backbone."""

from pathlib import Path

from experiment.disk.files import sha256_file, sha256_json
from projheads.hosts import layout

__all__ = ["BackboneIdentities"]


class BackboneIdentities:
    """Recognises saved models with the same backbone that read texts the same way.

    Models of one experiment share their weight file by hard links, so each file is hashed once.
    """

    def __init__(self) -> None:
        self._hashes: dict[tuple[int, int, int], str] = {}

    def of(self, model: Path) -> str:
        """Hash the names and bytes of a saved model's files, except those of its head and its model card."""
        heads = {model / entry.path for entry in layout.projections(model)}
        files = [file for file in model.rglob("*") if file.is_file() and heads.isdisjoint(file.parents)]
        named = {file.relative_to(model).as_posix(): self._hash(file) for file in files if file.suffix != ".md"}
        return sha256_json(named)

    def _hash(self, file: Path) -> str:
        status = file.stat()
        key = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = sha256_file(file)
        return self._hashes[key]
