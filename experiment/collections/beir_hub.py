"""The public collections of BEIR, downloaded by beir and kept as folders in BEIR layout."""

import zipfile
from pathlib import Path

from experiment.collections.beir_folder import is_beir_folder, read_beir_folder
from experiment.collections.collection import Collection
from experiment.disk.files import write_folder
from experiment.disk.lock import locked
from projheads.errors import ProjheadsError, unknown_name

__all__ = ["ARCHIVES", "CQADUPSTACK", "beir_folder", "beir_split", "list_beir", "open_beir"]

URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/{}.zip"

CQADUPSTACK = (
    "android",
    "english",
    "gaming",
    "gis",
    "mathematica",
    "physics",
    "programmers",
    "stats",
    "tex",
    "unix",
    "webmasters",
    "wordpress",
)
"""The parts of CQADupStack: one archive, twelve collections."""

ARCHIVES = {
    "arguana": "test",
    "climate-fever": "test",
    "dbpedia-entity": "test",
    "fever": "test",
    "fiqa": "test",
    "hotpotqa": "test",
    "msmarco": "dev",
    "nfcorpus": "test",
    "nq": "test",
    "quora": "test",
    "scidocs": "test",
    "scifact": "test",
    "trec-covid": "test",
    "webis-touche2020": "test",
}
"""The archives that hold one collection each, and the split that BEIR reports: ``test``, but of MS MARCO ``dev``, for
its ``test`` is TREC's Deep Learning track of 2019. BEIR's four collections under licence are not among them."""


def list_beir() -> list[str]:
    """List the names that may stand after ``beir:``."""
    return sorted([*ARCHIVES, *(f"cqadupstack/{part}" for part in CQADUPSTACK)])


def beir_split(name: str) -> str:
    """Return the split of a collection that BEIR reports."""
    return ARCHIVES.get(name, "test")


def beir_folder(name: str, cache: Path) -> Path:
    """Return where the collection ``name`` lies, once it has been downloaded.

    Raises:
        ProjheadsError: If BEIR has no such collection.
    """
    if name not in list_beir():
        raise unknown_name("BEIR dataset", name, list_beir())
    return cache / "beir" / name


def open_beir(name: str, *, split: str, cache: Path) -> Collection:
    """Open a collection of BEIR; the first time it is downloaded.

    Raises:
        ProjheadsError: If there is no such collection or split, or no network.
    """
    folder, archive = beir_folder(name, cache), name.split("/")[0]
    if not is_beir_folder(folder):
        with locked(cache / "beir" / f".{archive}.lock"):
            if not is_beir_folder(folder):  # another process may have brought it meanwhile
                _download(archive, cache / "beir")
    return read_beir_folder(folder, split=split, name=name)


def _download(archive: str, cache: Path) -> None:
    import requests
    from beir.util import download_and_unzip

    url = URL.format(archive)
    try:
        with write_folder(cache / archive) as folder:
            unpacked = Path(download_and_unzip(url, str(folder)))
            (folder / f"{archive}.zip").unlink()
            for file in sorted(unpacked.iterdir()):
                file.rename(folder / file.name)
            unpacked.rmdir()
    except requests.RequestException as error:
        raise ProjheadsError(
            f"beir:{archive}: {url} can not be reached ({type(error).__name__}); "
            f"without a network, put the unpacked folder at {cache / archive}"
        ) from None
    except zipfile.BadZipFile:
        raise ProjheadsError(f"beir:{archive}: {url} gave no zip archive; try again later") from None
