"""``pydocs``: real text that every user has, made from the docstrings of installed scientific packages.

A query is the summary of a docstring; its one relevant document is the rest, without name and summary. Training and
test texts come from different packages. Everything is written once, as two folders in BEIR layout, and read from there.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import metadata
from pathlib import Path

from experiment.collections import docstring_pairs, docstrings, near_duplicates
from experiment.collections.beir_folder import read_beir_folder, write_beir_folder
from experiment.collections.collection import Collection, Document
from experiment.collections.docstring_pairs import Pair, make_pair, normalise
from experiment.collections.docstrings import package_root, read_docstrings
from experiment.collections.near_duplicates import NearDuplicates
from experiment.collections.source import Source
from experiment.disk.files import sha256_file, sha256_json, versions, write_folder, write_text
from experiment.disk.lock import locked
from projheads.errors import ProjheadsError, unknown_name

__all__ = ["PYDOCS", "pydocs_folder"]

PACKAGES = {
    "test": {"numpy": "numpy", "scipy": "scipy"},
    "train": {
        "networkx": "networkx",
        "pandas": "pandas",
        "sklearn": "scikit-learn",
        "torch": "torch",
        "transformers": "transformers",
    },
}
"""The packages of each split: import name and distribution name."""

# Enough to distinguish heads, and few enough to encode on two CPU cores in a minute.
MOST_DOCUMENTS = {"test": 1200, "train": 4800}
FEWEST_DOCUMENTS = {"test": 1000, "train": 4000}
TEST_QUERIES = 600

SOURCE = """\
pydocs: summary lines (queries) and bodies (documents) of the docstrings of installed packages.
Read from the packages' source files by projheads. Every text keeps the licence of its package.

{packages}

{counts}
"""


def _open(split: str, cache: Path) -> Collection:
    """Open ``pydocs``; it is made on first use, in about half a minute, and kept for each set of package versions."""
    if split not in PACKAGES:
        raise unknown_name("split of pydocs", split, PACKAGES)
    folder = pydocs_folder(cache)
    if not folder.is_dir():
        with locked(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():  # another process may have made it in the meantime
                _make(folder)
    return read_beir_folder(folder / split, split=split, name="pydocs")


def pydocs_folder(cache: Path) -> Path:
    """Return the folder for these versions of the packages and of the code that reads them."""
    code = [Path(module.__file__ or "") for module in (docstrings, docstring_pairs, near_duplicates)] + [Path(__file__)]
    key = sha256_json([_versions(), [sha256_file(file) for file in code]])
    return cache / f"pydocs-{key[:16]}"


def _versions() -> dict[str, str]:
    return versions({name: distribution for split in PACKAGES.values() for name, distribution in split.items()})


def _make(folder: Path) -> None:
    # Test texts come first, so that no training text repeats one.
    seen = NearDuplicates()
    all_test = _distinct(_read_pairs("test"), seen)
    test_queries = {normalise(pair.query) for pair in all_test}
    all_train = [pair for pair in _distinct(_read_pairs("train"), seen) if normalise(pair.query) not in test_queries]
    pairs = {
        split: _sample(found, MOST_DOCUMENTS[split]) for split, found in (("test", all_test), ("train", all_train))
    }
    for split, found in pairs.items():
        _check_enough(split, len(found))
    queried = {"test": _sample(pairs["test"], TEST_QUERIES), "train": pairs["train"]}
    with write_folder(folder) as temporary:
        for split, found in pairs.items():
            _write(temporary / split, split, found, queried[split])
        write_text(temporary / "SOURCE.txt", _source_text(pairs, queried))


def _read_pairs(split: str) -> Iterator[Pair]:
    for package in PACKAGES[split]:
        root = package_root(package)
        if root is not None:
            yield from filter(None, map(make_pair, read_docstrings(package, root)))


def _distinct(pairs: Iterator[Pair], seen: NearDuplicates) -> list[Pair]:
    """Keep the first of each path and of near-duplicate documents, and only summaries of a single document."""
    by_path: dict[str, Pair] = {}
    for pair in pairs:
        if pair.path not in by_path and seen.add(pair.document):
            by_path[pair.path] = pair
    uses = Counter(normalise(pair.query) for pair in by_path.values())
    return [pair for pair in by_path.values() if uses[normalise(pair.query)] == 1]


def _sample(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Draw ``count`` pairs by the hashes of their paths, so that a new version of a package changes few of them."""
    drawn = set(sorted(pairs, key=lambda pair: hashlib.sha256(pair.path.encode()).digest())[:count])
    return [pair for pair in pairs if pair in drawn]


def _check_enough(split: str, documents: int) -> None:
    if documents >= FEWEST_DOCUMENTS[split]:
        return
    missing = [install for package, install in PACKAGES[split].items() if package_root(package) is None]
    advice = f"install {', '.join(missing)}" if missing else "use a different collection"
    needed = FEWEST_DOCUMENTS[split]
    raise ProjheadsError(f"pydocs: the installed packages give {documents} of {needed} {split} texts; {advice}")


def _write(folder: Path, split: str, pairs: Sequence[Pair], queried: Sequence[Pair]) -> None:
    # No query has the id of a document, which a search may exclude.
    write_beir_folder(
        folder,
        corpus=[Document(pair.path, "", pair.document) for pair in pairs],
        queries={f"q:{pair.path}": pair.query for pair in queried},
        qrels={split: {f"q:{pair.path}": {pair.path: 1} for pair in queried}},
    )


def _source_text(pairs: Mapping[str, Sequence[Pair]], queried: Mapping[str, Sequence[Pair]]) -> str:
    installed = _versions()
    packages = [
        f"{split}: {distribution} {installed[name]} ({_licence(distribution)})"
        for split, names in PACKAGES.items()
        for name, distribution in names.items()
        if name in installed
    ]
    counts = [f"{split}: documents={len(pairs[split])} queries={len(queried[split])}" for split in PACKAGES]
    return SOURCE.format(packages="\n".join(packages), counts="\n".join(counts))


def _licence(distribution: str) -> str:
    about = metadata(distribution)
    classifiers = [line for line in about.get_all("Classifier") or [] if line.startswith("License :: ")]
    stated = next((about[key] for key in ("License-Expression", "License") if about[key]), "")
    if stated and "\n" not in stated:
        return stated
    return classifiers[0].rpartition(" :: ")[2] if classifiers else "see the package"


def _missing(name: str, cache: Path) -> str | None:
    return (
        None
        if pydocs_folder(cache).is_dir()
        else "not on this disk yet; it is made from the installed packages, in half a minute"
    )


PYDOCS = Source(
    spelling="pydocs",
    about="docstrings of installed scientific packages: real text without a download",
    open=lambda name, split, cache: _open(split, cache),
    missing=_missing,
    label=lambda name: "pydocs",
    examples=lambda: ["pydocs"],
)
