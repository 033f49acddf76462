"""The public collections of BEIR, downloaded by beir and kept as folders in BEIR layout."""

import zipfile
from pathlib import Path

from experiment.collections.beir_folder import is_beir_folder, read_beir_folder
from experiment.collections.collection import Collection
from experiment.collections.source import Source
from experiment.disk.files import write_folder
from experiment.disk.lock import locked
from projheads.errors import ProjheadsError, unknown_name

__all__ = ["ARCHIVES", "BEIR", "CQADUPSTACK"]

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
"""The archives of one collection each, and the split that BEIR reports: ``test``, except for MS MARCO, whose ``test``
is the TREC 2019 Deep Learning track. BEIR's four licensed collections are not included."""


def _names() -> list[str]:
    return sorted([*ARCHIVES, *(f"cqadupstack/{part}" for part in CQADUPSTACK)])


def _folder(name: str, cache: Path) -> Path:
    if name not in _names():
        raise unknown_name("BEIR dataset", name, _names())
    return cache / "beir" / name


def _open(name: str, split: str, cache: Path) -> Collection:
    folder, archive = _folder(name, cache), name.split("/")[0]
    if not is_beir_folder(folder):
        with locked(cache / "beir" / f".{archive}.lock"):
            if not is_beir_folder(folder):  # another process may have downloaded it in the meantime
                _download(archive, cache / "beir")
    return read_beir_folder(folder, split=split, name=name, cache=cache)


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
            f"beir:{archive}: {url} cannot be reached ({type(error).__name__}); "
            f"if you have no network, put the unpacked folder at {cache / archive}"
        ) from None
    except zipfile.BadZipFile:
        raise ProjheadsError(f"beir:{archive}: {url} did not return a zip archive; try again later") from None


def _missing(name: str, cache: Path) -> str | None:
    return None if is_beir_folder(_folder(name, cache)) else "not on this disk yet; it is downloaded when needed"


BEIR = Source(
    spelling="beir:<name>",
    about="a public collection of BEIR, downloaded when needed",
    open=_open,
    missing=_missing,
    split=lambda name: ARCHIVES.get(name, "test"),
    examples=lambda: [f"beir:{name}" for name in _names()],
    published_without_same_ids=True,
)
