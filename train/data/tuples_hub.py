"""Tuples from a data set on the Hugging Face hub, read through the ``datasets`` library.

Two layouts are supported, distinguished by the columns of the table:

- ids, as lightonai/ms-marco-en-bge-gemma has them: rows with ``query_id``, ``document_ids`` and, from a teacher,
  ``scores``, in the configuration ``train`` (or ``<config>``), and the texts in the configurations ``queries``
  (``query_id``, ``text``) and ``documents`` (``document_id``, ``text``). The order of a row's documents is unspecified,
  so the one with the highest teacher score is put first; the texts stay in the table on disk.
- texts, as triplets for sentence-transformers: ``query`` or ``anchor``, ``positive``, ``negative`` (or
  ``negative_1``, ...), or ``query`` and ``documents``; in the configuration ``<config>``, or the default one.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from experiment.collections.hub import hub_errors
from projheads.errors import ProjheadsError
from train.data.tuples import Picked, Tuples, fingerprint
from train.data.tuples_file import TupleRow, make_tuples, parse_row

__all__ = ["read_hub_tuples"]


def read_hub_tuples(repo: str, config: str | None, *, split: str, n_ways: int | None) -> Tuples:
    """Read tuples from a data set on the hub.

    Args:
        repo: The repository, ``owner/name``, or a folder of the same layout.
        config: The configuration that holds the rows; None for ``train`` if it exists, else the default one.
        split: The split of the rows.
        n_ways: Documents to take from each tuple, from the first; None takes all.

    Raises:
        ProjheadsError: If the hub cannot be reached, the layout is unknown, or a row is invalid.
    """
    import datasets

    with hub_errors(repo):
        if config is None:
            config = "train" if "train" in datasets.get_dataset_config_names(repo) else None
        splits = datasets.load_dataset(repo, config)
        if split not in splits:
            raise ProjheadsError(f'hf:{repo}: has no split "{split}"; its splits are: {", ".join(splits)}')
        table = splits[split]
        if "document_ids" not in table.column_names:
            return make_tuples(_text_rows(f"hf:{repo}", table), f"hf:{repo}", n_ways=n_ways, collection=None)
        texts = {name: _only_split(datasets.load_dataset(repo, name)) for name in ("queries", "documents")}
    return _resolve(repo, table, texts["queries"], texts["documents"], n_ways)


def _text_rows(source: str, table: Any) -> Iterator[tuple[str, TupleRow]]:
    for number, row in enumerate(table, start=1):
        place = f"{source} row {number}"
        try:
            yield place, parse_row(row)
        except ValueError as error:
            raise ProjheadsError(f"{place}: {error}") from None


def _only_split(splits: Any) -> Any:
    return next(iter(splits.values()))


def _resolve(repo: str, table: Any, queries: Any, documents: Any, n_ways: int | None) -> Tuples:
    """Resolve ids column-wise: millions of rows take seconds, and no text is copied."""
    import pyarrow

    table = table.with_format("arrow")
    lists = table[:]["document_ids"].combine_chunks()
    counts = np.diff(lists.offsets.to_numpy())
    wanted = n_ways or int(counts[0])
    short = np.flatnonzero(counts < wanted if n_ways else counts != wanted)
    if len(short):
        need = f"n_ways is {n_ways}" if n_ways else f"row 1 has {wanted}; set n_ways"
        raise ProjheadsError(f"hf:{repo} row {short[0] + 1}: has {counts[short[0]]} documents, but {need}")
    starts = np.cumsum(counts) - counts
    places, scores = starts[:, None] + np.arange(wanted), None
    if "scores" in table.column_names:
        taught = _taught(repo, table[:]["scores"].combine_chunks(), counts)
        places = starts[:, None] + _best_first(taught, starts, counts, wanted)
        scores = taught[places]
    ids = lists.flatten().take(pyarrow.array(places.ravel()))
    document_rows = _rows_of(repo, "documents", documents, "document_id", ids, wanted)
    query_rows = _rows_of(repo, "queries", queries, "query_id", table[:]["query_id"].combine_chunks(), 1)
    used_queries, query_places = np.unique(query_rows, return_inverse=True)
    used_documents, document_places = np.unique(document_rows, return_inverse=True)
    rows = np.concatenate([query_places[:, None], document_places.reshape(-1, wanted)], axis=1).astype(np.int64)
    texts = (Picked(_reader(queries), used_queries), Picked(_reader(documents), used_documents))
    judged = rows[:0, :2]
    return Tuples(*texts, rows, scores, judged, fingerprint(*texts, rows, scores, judged))


def _taught(repo: str, lists: Any, counts: np.ndarray) -> np.ndarray:
    """Return the teacher's scores of all rows, concatenated, float32."""
    different = np.flatnonzero(np.diff(lists.offsets.to_numpy()) != counts)
    scores: np.ndarray = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    if len(different):
        raise ProjheadsError(f"hf:{repo} row {different[0] + 1}: has different numbers of scores and documents")
    if not np.isfinite(scores).all():
        row = int(np.searchsorted(np.cumsum(counts), np.flatnonzero(~np.isfinite(scores))[0], side="right"))
        raise ProjheadsError(f"hf:{repo} row {row + 1}: a score is missing or not finite")
    return scores


def _best_first(scores: np.ndarray, starts: np.ndarray, counts: np.ndarray, wanted: int) -> np.ndarray:
    """Return within each row the position of the best document, then of the others in order, (n, wanted)."""
    best = np.array([scores[start : start + count].argmax() for start, count in zip(starts, counts, strict=True)])
    order: np.ndarray = np.arange(wanted) - (np.arange(wanted) <= best[:, None])
    order[:, 0] = best
    return order


def _rows_of(repo: str, config: str, table: Any, column: str, wanted: Any, width: int) -> np.ndarray:
    """Return the row of each wanted id in a table of texts, (n,) int64."""
    import pyarrow
    import pyarrow.compute

    if column not in table.column_names or "text" not in table.column_names:
        raise ProjheadsError(
            f'hf:{repo} {config}: needs "{column}" and "text", but has {", ".join(table.column_names)}'
        )
    known = table.select_columns([column]).with_format("arrow")[:][column].combine_chunks()
    found = pyarrow.compute.index_in(wanted.cast(pyarrow.large_string()), value_set=known.cast(pyarrow.large_string()))
    if found.null_count:
        place = int(np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False))[0])
        raise ProjheadsError(
            f'hf:{repo} row {place // width + 1}: the configuration "{config}" has no "{wanted[place]}"'
        )
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


def _reader(table: Any) -> Callable[[np.ndarray], list[str]]:
    """Return a function that reads texts of a table on disk."""
    column = table.select_columns(["text"])
    return lambda places: [text or "" for text in column[places.tolist()]["text"]]
