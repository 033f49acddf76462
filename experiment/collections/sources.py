"""The table of sources of retrieval data, and what callers ask of it. A new source is a new entry of ``SOURCES``."""

from pathlib import Path

from experiment.collections.beir_folder import FOLDER
from experiment.collections.beir_hub import BEIR
from experiment.collections.collection import Collection
from experiment.collections.hub import HUB
from experiment.collections.mteb import MTEB
from experiment.collections.nano_beir import NANO
from experiment.collections.pydocs import PYDOCS
from experiment.collections.source import Source
from experiment.collections.suites import list_suites
from projheads.errors import ProjheadsError, UnknownNameError, did_you_mean

__all__ = ["DEFAULT_CACHE", "SOURCES", "check_source", "check_training_source", "default_name", "official_split"]
__all__ += ["open_collection", "published_without_same_ids"]

DEFAULT_CACHE = Path("outputs/.cache")
"""Where downloads and ``pydocs`` are kept by default."""

SOURCES = {source.scheme: source for source in (PYDOCS, BEIR, NANO, MTEB, HUB)}
"""The sources by scheme. Anything else is the path of a folder in BEIR layout."""


def open_collection(text: str, *, split: str, cache: Path | None = None) -> Collection:
    """Open one split of a collection.

    Args:
        text: The source as a configuration writes it: ``pydocs``, ``beir:<name>``, ``nano:<name>``, ``mteb:<task>``,
            ``hf:<owner>/<name>[/<config>]``, or the path of a folder in BEIR layout.
        split: The split whose queries and judgements are read.
        cache: Folder for what is downloaded or made; ``outputs/.cache`` by default. The hub keeps its own cache.

    Raises:
        ProjheadsError: If the source or split is unknown, it cannot be fetched, or its content is broken.
    """
    check_source(text, cache=cache)
    source, name = _find(text)
    return source.open(name, split, cache or DEFAULT_CACHE)


def check_source(text: str, *, cache: Path | None = None) -> str | None:
    """Check the spelling of a source and whether it is on this disk, without loading it or using the network.

    Returns:
        A warning if the source is not on this disk yet, or None.

    Raises:
        ProjheadsError: If the scheme or name is unknown, or a folder has a different layout.
    """
    source, name = _find(text)
    if source is FOLDER and not _is_path(text):
        raise _unknown(text)
    missing = source.missing(name, cache or DEFAULT_CACHE)
    return None if missing is None else f"{text}: {missing}"


def check_training_source(text: str) -> None:
    """Check the spelling of a source whose training pairs are wanted.

    Raises:
        ProjheadsError: As ``check_source`` does, or if the source is only for testing.
    """
    instead = _find(text)[0].not_for_training
    if instead is not None:
        raise ProjheadsError(f'"{text}" is only for testing; {instead}')
    check_source(text)


def official_split(text: str) -> str:
    """Return the split of a source by which models are compared."""
    source, name = _find(text)
    return source.split(name)


def published_without_same_ids(text: str) -> bool:
    """Return whether published numbers on a source exclude the document that has a query's id."""
    return _find(text)[0].published_without_same_ids


def default_name(text: str) -> str:
    """Return what tables and result files call a source by default."""
    source, name = _find(text)
    return source.file_name(name)


def _find(text: str) -> tuple[Source, str]:
    scheme, colon, name = text.partition(":")
    source = SOURCES.get(scheme)
    return (source, name) if source and source.takes_name == bool(colon) else (FOLDER, text)


def _is_path(text: str) -> bool:
    return bool(text) and (Path(text).expanduser().exists() or ("/" in text and ":" not in text))


def _unknown(text: str) -> UnknownNameError:
    suites = [f"suite:{name}" for name in list_suites()]
    hints = [did_you_mean(text, source.examples()) for source in SOURCES.values()]
    meant = next(filter(None, [*hints, did_you_mean(text, suites)]), "")
    known = [source.spelling for source in SOURCES.values()]
    return UnknownNameError(f'unknown dataset "{text}"; known: {", ".join([*known, *suites, FOLDER.spelling])}{meant}')
