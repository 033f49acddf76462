"""The model that is exported, read from its files without a host."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.hosts.backbone import transformer_subfolder
from projheads.hosts.base import EncodingSettings, OpenOptions, StrPath
from projheads.hosts.model_folder import read_head, read_settings, written_by
from projheads.hosts.opening import find_model, opening
from projheads.hosts.tokenizer import pad_on_the_right
from projheads.hosts.trust import check_links

__all__ = ["Source", "open_encoder", "open_source"]


@dataclass(frozen=True)
class Source:
    """A model folder.

    Attributes:
        folder: The folder.
        transformer: The folder of its transformer and tokenizer; the same or a subfolder.
        head: Its head, in evaluation mode.
        written_by: The host that wrote it.
        settings: How texts become tokens; None if only that host can do it.
        only_theirs: What only that host can do, or None.
        options: How it was opened.
    """

    folder: Path
    transformer: Path
    head: Head
    written_by: str
    settings: EncodingSettings | None
    only_theirs: str | None
    options: OpenOptions

    def shared_settings(self) -> EncodingSettings:
        """Return the settings.

        Raises:
            ProjheadsError: If only the host that wrote the model can do what they say.
        """
        if self.settings is None:
            raise ProjheadsError(self.only_theirs or "")
        return self.settings


def open_source(model: StrPath, options: OpenOptions) -> Source:
    """Open a model of PyLate or sentence-transformers, with a head of ours or a chain of ``Dense``.

    Args:
        model: A folder or a hub name.
        options: How it may be found and opened.

    Raises:
        ProjheadsError: If it cannot be found, is damaged or incomplete, has no head, or links to files outside of it.
    """
    folder = find_model(model, options)
    check_links(folder)
    if written_by(folder) == "stanford":
        raise ProjheadsError(
            f"{folder}: is in Stanford's layout, where the head already is one matrix and needs no folding; to "
            "export or average it, open it with PyLate and use the folder that save_pretrained writes"
        )
    head = read_head(folder).eval()
    settings, only_theirs = None, None
    try:
        settings = read_settings(folder)
    except ProjheadsError as error:
        if written_by(folder) == "pylate":
            raise
        only_theirs = str(error)
    transformer = folder / transformer_subfolder(folder)
    return Source(
        folder, transformer, head, written_by(folder) or "sentence-transformers", settings, only_theirs, options
    )


def open_encoder(source: Source) -> tuple[Any, Any]:
    """Open a model's transformer, in evaluation mode, and its tokenizer with transformers alone.

    Raises:
        ProjheadsError: If one cannot be opened or lacks weights.
    """
    from transformers import AutoModel, AutoTokenizer

    options = {"trust_remote_code": source.options.trust_remote_code, "local_files_only": True}
    with opening("model", str(source.transformer)):
        encoder = AutoModel.from_pretrained(source.transformer, **options).eval()
        tokenizer = AutoTokenizer.from_pretrained(source.transformer, **options)
    pad_on_the_right(tokenizer, encoder.config)
    return encoder, tokenizer
