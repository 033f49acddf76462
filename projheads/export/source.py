"""The checkpoint that is exported, read from its files without a host."""

from dataclasses import dataclass
from pathlib import Path

from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.hosts.backbone import resolve_backbone, transformer_subfolder
from projheads.hosts.base import EncodingSettings
from projheads.hosts.files import is_stanfords
from projheads.hosts.layout import read_head, read_settings, written_by

__all__ = ["Source", "open_source"]


@dataclass(frozen=True)
class Source:
    """A checkpoint.

    Attributes:
        folder: Where its files are.
        transformer: Where the files of its transformer and tokenizer are; the folder itself or one inside.
        head: Its head, in evaluation mode.
        written_by: The host that wrote it.
        settings: How texts become tokens; None where only that host can do it.
        only_theirs: What it is that only that host can do, or None.
    """

    folder: Path
    transformer: Path
    head: Head
    written_by: str
    settings: EncodingSettings | None
    only_theirs: str | None

    def shared_settings(self) -> EncodingSettings:
        """Return the settings.

        Raises:
            ProjheadsError: If only the host that wrote the checkpoint can do what they say.
        """
        if self.settings is None:
            raise ProjheadsError(self.only_theirs or "")
        return self.settings


def open_source(model: str) -> Source:
    """Open a checkpoint of PyLate or sentence-transformers, with a head of ours or a chain of ``Dense``.

    Args:
        model: A folder or a hub name.

    Raises:
        ProjheadsError: If it can not be found, is broken, or has no head.
    """
    folder = resolve_backbone(model)
    if is_stanfords(folder):
        raise ProjheadsError(f"{folder}: is in Stanford's layout, whose head is one matrix already; nothing to do")
    head = read_head(folder).eval()
    settings, only_theirs = None, None
    try:
        settings = read_settings(folder)
    except ProjheadsError as error:
        if written_by(folder) == "pylate":
            raise
        only_theirs = str(error)
    transformer = folder / transformer_subfolder(folder)
    return Source(folder, transformer, head, written_by(folder) or "sentence-transformers", settings, only_theirs)
