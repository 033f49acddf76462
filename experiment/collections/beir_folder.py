"""A folder in BEIR layout: corpus.jsonl, queries.jsonl and qrels/<split>.tsv.

The layout is that of BEIR (Thakur et al., 2021, arXiv:2104.08663). A broken line is reported with its file and number;
oddities that retrieval survives are counted.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiment.collections.collection import Collection, Document, Judgement, make_collection
from experiment.collections.large_corpus import LARGE, open_large_corpus
from experiment.collections.rows import Records, read_documents, read_grade, read_queries
from experiment.collections.source import Source
from experiment.disk.files import sha256_json
from projheads.errors import ProjheadsError, parse_json

__all__ = ["FOLDER", "is_beir_folder", "read_beir_folder", "split_tsv", "write_beir_folder"]

HEADER = ("query-id", "corpus-id", "score")


def is_beir_folder(folder: Path) -> bool:
    """Return whether ``folder`` has a corpus in BEIR layout."""
    return (folder / "corpus.jsonl").is_file()


def read_beir_folder(folder: Path, *, split: str, name: str | None = None, cache: Path | None = None) -> Collection:
    """Read one split of a folder in BEIR layout.

    Qrels without the header line are read as well, and noted as ``qrels_without_header``; the other notes are those of
    ``make_collection`` and ``read_documents``.

    Args:
        folder: The folder.
        split: Name of the file in ``qrels/``, without ``.tsv``.
        name: The collection's name; the folder's by default.
        cache: Where a large corpus is kept as an Arrow file; None reads it into memory.

    Raises:
        ProjheadsError: If a file is missing or broken, an id is used twice, or there is nothing to search or to judge.
    """
    if not is_beir_folder(folder):
        raise ProjheadsError(f"{folder}: not a folder in BEIR layout: it has no corpus.jsonl")
    splits = {file.stem: file for file in sorted((folder / "qrels").glob("*.tsv"))}
    if split not in splits:
        known = f"its splits: {', '.join(splits)}" if splits else "it has no splits"
        raise ProjheadsError(f'{folder}: unknown split "{split}", no file qrels/{split}.tsv; {known}')
    notes: Counter[str] = Counter()
    return make_collection(
        name or folder.resolve().name,
        split,
        _read_corpus(folder / "corpus.jsonl", notes, cache),
        read_queries(_read_jsonl(folder / "queries.jsonl"), notes),
        list(_read_qrels(splits.pop(split), notes)),
        source=str(folder),
        judged_elsewhere={row[0] for file in splits.values() for _, row in _read_tsv(file)},
        notes=notes,
    )


def _read_corpus(file: Path, notes: Counter[str], cache: Path | None) -> Mapping[str, Document]:
    about = file.stat()
    if cache is None or about.st_size < LARGE:
        return read_documents(_read_jsonl(file), notes)
    key = sha256_json([str(file.resolve()), about.st_size, about.st_mtime_ns])
    return open_large_corpus(cache / "corpora" / key[:32], _read_jsonl(file), notes)


def write_beir_folder(
    folder: Path,
    corpus: Iterable[Document],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, Mapping[str, int]]],
) -> None:
    """Write a collection in BEIR layout. The same content gives the same bytes.

    Args:
        folder: The folder to write; created if missing.
        corpus: The documents, in the order in which they are written.
        queries: Texts of the queries of all splits by id.
        qrels: For each split, the grades by query id and document id.
    """
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    documents = ({"_id": document.id, "title": document.title, "text": document.text} for document in corpus)
    _write_jsonl(folder / "corpus.jsonl", documents)
    _write_jsonl(folder / "queries.jsonl", ({"_id": key, "text": text} for key, text in queries.items()))
    for split, judged in qrels.items():
        with (folder / "qrels" / f"{split}.tsv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(HEADER)
            for query_id, grades in judged.items():
                writer.writerows((query_id, document_id, grade) for document_id, grade in grades.items())


def _read_qrels(file: Path, notes: Counter[str]) -> Iterator[Judgement]:
    for position, (number, row) in enumerate(_read_tsv(file)):
        if position == 0 and _is_header(row):
            continue
        try:
            if len(row) != len(HEADER):
                raise ValueError(_explain_columns(row))
            yield row[0], row[1], read_grade(row[2])
        except ValueError as error:
            raise ProjheadsError(f"{file} line {number}: {error}") from None
        if position == 0:
            notes["qrels_without_header"] += 1


def _is_header(row: list[str]) -> bool:
    """A judgement has a number in its last column; the names of the columns vary."""
    return len(row) == len(HEADER) and not any(character.isdigit() for character in row[-1])


def _explain_columns(row: list[str]) -> str:
    expected = f"expected three columns separated by tabs: {', '.join(HEADER)}"
    if len(row) == 4 or len(row[0].split()) == 4:
        return f"four columns, as in TREC qrels; remove the second ({expected})"
    return f"{len(row)} column{'s' if len(row) > 1 else ''}; {expected}"


def _read_tsv(file: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in _read_lines(file):
        # Quotes are rare and mean what they mean to beir, which reads and writes qrels with the csv module.
        try:
            yield number, split_tsv(line)
        except ValueError as error:
            raise ProjheadsError(f"{file} line {number}: {error}") from None


def split_tsv(line: str) -> list[str]:
    """Split a line at tabs, reading quotes as the csv module does.

    Raises:
        ValueError: If the csv module cannot read it, for instance a column of over 131 072 characters.
    """
    try:
        return next(csv.reader([line], delimiter="\t")) if '"' in line else line.split("\t")
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"not tab-separated values ({error or 'no columns'})") from None


def _read_jsonl(file: Path) -> Records:
    def rows() -> Iterator[tuple[int, Any]]:
        for number, line in _read_lines(file):
            try:
                yield number, parse_json(line)
            except ValueError as error:
                reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
                raise ProjheadsError(f"{file} line {number}: broken JSON: {reason}") from None

    return Records(str(file), "line", rows())


def _read_lines(file: Path) -> Iterator[tuple[int, str]]:
    r"""Yield number and text of the lines that are not blank.

    Only ``\n`` ends a line: a JSON string may contain the other characters at which ``str.splitlines`` breaks.
    """
    if not file.is_file():
        raise ProjheadsError(f"{file}: no such file; a folder in BEIR layout has one")
    with file.open("rb") as source:
        for number, raw in enumerate(source, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise ProjheadsError(f"{file} line {number}: not UTF-8; convert the file to UTF-8") from None
            if line.strip():
                yield number, line


def _write_jsonl(file: Path, records: Iterable[Mapping[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as target:
        target.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _missing(path: str, cache: Path) -> str | None:
    folder = Path(path).expanduser()
    if is_beir_folder(folder):
        return None
    if folder.exists():
        raise ProjheadsError(f"{path}: not a folder in BEIR layout: it has no corpus.jsonl")
    return "the folder does not exist yet"


FOLDER = Source(
    spelling="a folder in BEIR layout",
    about="`corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`",
    open=lambda path, split, cache: read_beir_folder(Path(path).expanduser(), split=split, cache=cache),
    missing=_missing,
    label=lambda path: Path(path).name,
)
