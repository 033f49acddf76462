"""Retrieval data sets of the Hugging Face hub, read through the ``datasets`` library and kept in its own cache.

The layout is that of BEIR's and MTEB's repositories: one table each for corpus, queries and qrels. Their
configurations, for a data set ``hf:<repo>`` and for ``hf:<repo>/<config>`` (one language or part of several):

- corpus: ``corpus``; with a config ``<config>-corpus``
- queries: ``queries``; with a config ``<config>-queries``
- qrels: ``qrels``, ``default``, or the repository ``<repo>-qrels``; with a config ``<config>-qrels`` or ``<config>``
"""

import importlib.util
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from experiment.collections.collection import Collection, Document, Judgement, make_collection
from experiment.collections.large_corpus import LARGE, open_large_corpus
from experiment.collections.rows import Records, read_documents, read_grade, read_queries
from experiment.collections.source import Source
from experiment.disk.files import sha256_json
from projheads.errors import ProjheadsError

__all__ = ["HUB", "fetch_file", "hub_errors", "load_splits", "missing_from_hub_cache", "open_hub", "parse_hub_name"]

Splits = Mapping[str, Any]
"""The splits of one table: name to rows, which are dictionaries."""


def parse_hub_name(name: str) -> tuple[str, str | None]:
    """Split ``owner/name`` or ``owner/name/config`` into repository and config.

    Raises:
        ProjheadsError: If it is neither.
    """
    parts = name.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise ProjheadsError(f'"hf:{name}": write hf:<owner>/<name> or hf:<owner>/<name>/<config>')
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None


def missing_from_hub_cache(repo: str) -> str | None:
    """Return the warning that nothing of a repository is in the hub's cache on this disk, or None."""
    from huggingface_hub import constants

    cached = (Path(constants.HF_HUB_CACHE) / f"datasets--{repo.replace('/', '--')}").is_dir()
    return None if cached else "not on this disk yet; it is fetched when needed"


def open_hub(
    repo: str, *, split: str, config: str | None = None, revision: str | None = None, cache: Path | None = None
) -> Collection:
    """Open one split of a data set on the hub.

    Args:
        repo: The repository, ``owner/name``, or a folder of the same layout.
        split: The split of the qrels.
        config: Prefix of the names of the configurations, if the repository holds several data sets.
        revision: Commit, branch or tag; None for the default branch.
        cache: Where a large corpus is kept as an Arrow file; None reads it into memory.

    Raises:
        ProjheadsError: If the hub cannot be reached, the repository or split does not exist, or the layout differs.
    """
    with hub_errors(repo):
        prefix = f"{config}-" if config else ""
        corpus = _load_table(repo, f"{prefix}corpus", split, revision)
        queries = _load_table(repo, f"{prefix}queries", split, revision)
        qrels = _load_qrels(repo, (f"{prefix}qrels", config or "default"), revision)
    if split not in qrels:
        raise ProjheadsError(f'hf:{repo}: unknown split "{split}"; its splits: {", ".join(sorted(qrels))}')
    notes: Counter[str] = Counter()
    return make_collection(
        "/".join(filter(None, [repo, config])),
        split,
        _read_corpus(f"hf:{repo} corpus", corpus, notes, cache),
        read_queries(_records(f"hf:{repo} queries", queries), notes),
        list(_read_qrels(f"hf:{repo} qrels", qrels[split])),
        source=f"hf:{repo}",
        judged_elsewhere={str(row["query-id"]) for name, rows in qrels.items() if name != split for row in rows},
        notes=notes,
    )


def _read_corpus(source: str, table: Any, notes: Counter[str], cache: Path | None) -> Mapping[str, Document]:
    size = getattr(getattr(table, "data", None), "nbytes", 0)
    if cache is None or size < LARGE:
        return read_documents(_records(source, table), notes)
    key = sha256_json([source, table.num_rows, table._fingerprint])
    return open_large_corpus(cache / "corpora" / key[:32], _records(source, table), notes)


def load_splits(repo: str, config: str | None, revision: str | None = None) -> Splits:
    """Return the splits of one table of a repository, or of a folder of the same layout, which has no revisions."""
    import datasets

    tables: Splits = datasets.load_dataset(repo, config, revision=None if Path(repo).is_dir() else revision)
    return tables


def fetch_file(repo: str, file: str, revision: str | None = None) -> Path:
    """Return one file of a data set on the hub, or of a folder of the same layout."""
    from huggingface_hub import hf_hub_download

    if Path(repo).is_dir():
        return Path(repo, file)
    return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))


def _load_table(repo: str, config: str, split: str, revision: str | None) -> Any:
    """Return the rows of a table that all splits share, whatever its own split is called."""
    tables = load_splits(repo, config, revision)
    for name in (config.rpartition("-")[2], split):
        if name in tables:
            return tables[name]
    if len(tables) > 1:
        raise ProjheadsError(f'hf:{repo}: "{config}" has several splits: {", ".join(tables)}; one was expected')
    return next(iter(tables.values()))


def _load_qrels(repo: str, configs: Sequence[str], revision: str | None) -> Splits:
    for config in configs:
        # datasets raises ValueError if the configuration does not exist, online or in its cache.
        with suppress(ValueError):
            return load_splits(repo, config, revision)
    return load_splits(f"{repo}-qrels", None)


def _records(source: str, table: Any) -> Records:
    """Number the rows; MTEB's newer repositories call the id ``id``."""
    rows = (row if "_id" in row else {**row, "_id": row.get("id")} for row in table)
    return Records(source, "row", enumerate(rows, start=1))


def _read_qrels(source: str, table: Any) -> Iterator[Judgement]:
    for number, row in enumerate(table, start=1):
        try:
            # A table without grades names relevant documents only.
            yield str(row["query-id"]), str(row["corpus-id"]), read_grade(row.get("score", 1))
        except KeyError as error:
            raise ProjheadsError(f"{source}: column {error} is missing; it has {', '.join(row)}") from None
        except ValueError as error:
            raise ProjheadsError(f"{source} row {number}: {error}") from None


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turn the errors of the block, which reads a data set of the hub, into one line."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    except _network_errors():
        raise ProjheadsError(
            f"hf:{repo}: the hub cannot be reached and the data set is not in its cache; "
            "connect once to fetch it, or use a folder in BEIR layout"
        ) from None
    except (DatasetNotFoundError, HfHubHTTPError):
        raise ProjheadsError(
            f"hf:{repo}: not on the hub, or private; if it is private, log in with `hf auth login`"
        ) from None
    except (DatasetsError, FileNotFoundError, RuntimeError, ValueError) as error:
        raise ProjheadsError(f"hf:{repo}: {str(error.__cause__ or error).splitlines()[0]}") from None
    finally:
        hub_logging.set_verbosity(verbosity)


def _network_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a lost network: huggingface_hub raises those of httpx, or of httpx2 from version 2 on."""
    installed = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
    from huggingface_hub.errors import LocalEntryNotFoundError

    return (
        ConnectionError,
        LocalEntryNotFoundError,
        *(importlib.import_module(name).TransportError for name in installed),
    )


def _open(name: str, split: str, cache: Path) -> Collection:
    repo, config = parse_hub_name(name)
    return open_hub(repo, split=split, config=config, cache=cache)


HUB = Source(
    spelling="hf:<owner>/<name>[/<config>]",
    about="a data set of the Hugging Face hub with tables corpus, queries and qrels",
    open=_open,
    missing=lambda name, cache: missing_from_hub_cache(parse_hub_name(name)[0]),
)
