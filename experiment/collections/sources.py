"""The spelling of a source of retrieval data, and the reader that it stands for."""

from pathlib import Path

from experiment.collections.beir_folder import is_beir_folder, read_beir_folder
from experiment.collections.beir_hub import beir_folder, beir_split, list_beir, open_beir
from experiment.collections.collection import Collection
from experiment.collections.hub import in_hub_cache, open_hub, parse_hub_name
from experiment.collections.nano_beir import NANO_BEIR, NANO_SPLIT, in_nano_cache, open_nano
from experiment.collections.pydocs import open_pydocs, pydocs_folder
from experiment.collections.suites import list_suites
from projheads.errors import ProjheadsError, UnknownNameError, did_you_mean

__all__ = ["DEFAULT_CACHE", "check_source", "official_split", "open_collection"]

DEFAULT_CACHE = Path("outputs/.cache")
"""Where downloads and ``pydocs`` are kept when nothing else is said."""


def open_collection(source: str, *, split: str, cache: Path | None = None) -> Collection:
    """Open one split of a collection.

    Args:
        source: ``pydocs``, ``beir:<name>``, ``nano:<name>``, ``hf:<owner>/<name>[/<config>]``, or the path of a folder
            in BEIR layout.
        split: The split whose queries and judgements are wanted.
        cache: Folder for what is downloaded or made; ``outputs/.cache`` by default. The hub keeps its own cache.

    Raises:
        ProjheadsError: If there is no such source or split, it can not be fetched, or its content is broken.
    """
    cache = cache or DEFAULT_CACHE
    check_source(source, cache=cache)
    scheme, _, name = source.partition(":")
    if source == "pydocs":
        return open_pydocs(split=split, cache=cache)
    if scheme == "beir":
        return open_beir(name, split=split, cache=cache)
    if scheme == "nano":
        return open_nano(name, split=split)
    if scheme == "hf":
        repo, config = parse_hub_name(name)
        return open_hub(repo, split=split, config=config)
    return read_beir_folder(Path(source).expanduser(), split=split)


def check_source(source: str, *, cache: Path | None = None) -> str | None:
    """Check the spelling of a source and look whether it is on this disk; no network, no loading.

    Returns:
        A line that warns when the source is not on this disk yet, or None.

    Raises:
        ProjheadsError: If it can not be a source: an unknown scheme or name, or a folder of another layout.
    """
    scheme, colon, name = source.partition(":")
    if source == "pydocs":
        made = pydocs_folder(cache or DEFAULT_CACHE).is_dir()
        return None if made else "pydocs: not on this disk yet; it is made of the installed packages, in half a minute"
    if scheme == "beir":
        folder = beir_folder(name, cache or DEFAULT_CACHE)
        return None if is_beir_folder(folder) else f"{source}: not on this disk yet; it is downloaded when it is needed"
    if scheme == "nano":
        return None if in_nano_cache(name) else f"{source}: not on this disk yet; it is fetched when it is needed"
    if scheme == "hf":
        repo, _ = parse_hub_name(name)
        return None if in_hub_cache(repo) else f"{source}: not on this disk yet; it is fetched when it is needed"
    path = Path(source).expanduser()
    if source and is_beir_folder(path):
        return None
    if source and path.exists():
        raise ProjheadsError(f"{source}: not a folder in BEIR layout: it has no corpus.jsonl")
    if "/" in source and not colon:
        return f"{source}: there is no such folder yet"
    suites = [f"suite:{name}" for name in list_suites()]
    likely = ["pydocs", *(f"beir:{name}" for name in list_beir())]
    meant = did_you_mean(source, likely) or did_you_mean(source, [*(f"nano:{name}" for name in NANO_BEIR), *suites])
    raise UnknownNameError(
        f'unknown dataset "{source}"; known: pydocs, beir:<name>, nano:<name>, hf:<owner>/<name>, '
        f"{', '.join(suites)}, a folder in BEIR layout{meant}"
    )


def official_split(source: str) -> str:
    """Return the split of a source by which models are compared."""
    scheme, _, name = source.partition(":")
    if scheme == "nano":
        return NANO_SPLIT
    return beir_split(name) if scheme == "beir" else "test"
