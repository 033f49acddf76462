"""``python -m train teach``: a teacher's scores for the documents of every tuple."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiment.console.progress import Progress
from experiment.disk.files import read_json, sha256_json, write_json, write_parts
from projheads.errors import ProjheadsError
from train.data.teacher import Teacher
from train.data.tuples import Tuples, draw_examples, example_generator
from train.data.tuples_file import parse_row, read_about

__all__ = ["Teaching", "teach"]

WINDOW = 512
"""Texts, or pairs of texts, between two commits, from which an interrupted command resumes."""


@dataclass(frozen=True)
class Teaching:
    """What is scored, and by what.

    Attributes:
        path: The file of tuples.
        tuples: Its tuples.
        teacher: The teacher.
        max_pairs: How many tuples are scored, those that training with this ``max_pairs`` draws; None for all.
    """

    path: Path
    tuples: Tuples
    teacher: Teacher
    max_pairs: int | None = None

    @cached_property
    def chosen(self) -> np.ndarray:
        """The places of the tuples to score, (n,) int64, sorted."""
        return draw_examples(len(self.tuples.rows), self.max_pairs, example_generator())

    def about(self) -> dict[str, Any]:
        """Return what the first line of the file with scores says about how it was made."""
        about = read_about(self.path)
        about |= {"taught_by": "python -m train teach", "tuples": self.tuples.hash, "teacher": self.teacher.about()}
        return about if self.max_pairs is None else about | {"max_pairs": self.max_pairs}


def teach(teaching: Teaching, out: Path, progress: Progress) -> str:
    """Copy a file of tuples, adding the teacher's score of each document.

    A bi-encoder encodes each distinct text once, a CrossEncoder scores each distinct pair once. Intermediate results
    are kept in a folder beside ``out`` until the file is complete, so memory is bounded, and rerunning the same command
    after a crash resumes.

    Args:
        teaching: The file and the teacher.
        out: The file to write.
        progress: Reports progress.

    Returns:
        A one-line summary of the scores.

    Raises:
        ProjheadsError: If a score is not finite.
    """
    teacher, chosen = teaching.teacher, teaching.chosen
    key = sha256_json([teaching.tuples.hash, teacher.about(), teaching.max_pairs])
    work = out.with_name(f".{out.name}.{key[:16]}.teach")
    work.mkdir(parents=True, exist_ok=True)
    scores = _score(teaching.tuples.take(chosen), teacher, work, progress)
    if not np.isfinite(scores).all():
        place = int(chosen[np.flatnonzero(~np.isfinite(scores).all(axis=1))[0]])
        raise ProjheadsError(
            f"{teaching.path} tuple {place + 1}: the teacher {teacher.name} returned a score that is not finite"
        )
    write_parts(out, _lines(teaching, scores))
    for file in work.iterdir():
        file.unlink()
    work.rmdir()
    first = float((scores.argmax(axis=1) == 0).mean())
    return (
        f"{len(scores)} tuples of {scores.shape[1]} documents scored by the {teacher.kind} {teacher.name} "
        f"({teacher.measure}): mean {scores[:, 0].mean():.4f} for the first document and {scores[:, 1:].mean():.4f} "
        f"for the others; the first is the best in {first:.1%} of the tuples"
    )


def _score(tuples: Tuples, teacher: Teacher, work: Path, progress: Progress) -> np.ndarray:
    """Return the scores (n, n_ways) float32."""
    documents, n_ways = tuples.rows[:, 1:], tuples.rows.shape[1] - 1
    queries = np.repeat(tuples.rows[:, :1], n_ways, axis=1)
    if teacher.kind == "bi-encoder":
        sides = []
        for is_query, texts in ((True, tuples.queries), (False, tuples.documents)):

            def encode(start: int, stop: int, texts: Sequence[str] = texts, is_query: bool = is_query) -> np.ndarray:
                return teacher.encode(texts[start:stop], is_query=is_query)

            name = "queries" if is_query else "documents"
            sides.append(_fill(work / name, len(texts), teacher.width, encode, progress))
        scores = np.empty(queries.shape, np.float32)
        for start in range(0, len(scores), WINDOW):
            rows = slice(start, start + WINDOW)
            left, right = sides[0][queries[rows].ravel()], sides[1][documents[rows].ravel()]
            scores[rows] = teacher.compare(left, right).reshape(-1, n_ways)
        return scores
    pairs, places = np.unique(np.stack([queries.ravel(), documents.ravel()], axis=1), axis=0, return_inverse=True)

    def predict(start: int, stop: int) -> np.ndarray:
        return teacher.predict([(tuples.queries[int(q)], tuples.documents[int(d)]) for q, d in pairs[start:stop]])

    found = _fill(work / "pairs", len(pairs), 1, predict, progress).ravel()
    return np.asarray(found[places.ravel()]).reshape(documents.shape)


def _fill(
    path: Path, count: int, width: int, compute: Callable[[int, int], np.ndarray], progress: Progress
) -> np.ndarray:
    """Fill rows (count, width) float32 on disk window by window, resuming where an earlier call stopped."""
    state, rows = path.with_suffix(".json"), path.with_suffix(".bin")
    done = _done(state) if rows.is_file() and rows.stat().st_size == count * width * 4 else 0
    array = np.memmap(rows, "<f4", "r+" if done else "w+", shape=(count, width))
    with progress.step(f"teacher: {count} {path.name}", count) as advance:
        advance(done)
        for start in range(done, count, WINDOW):
            stop = min(count, start + WINDOW)
            array[start:stop] = compute(start, stop)
            array.flush()
            write_json(state, {"done": stop})
            advance(stop - start)
    return array


def _done(state: Path) -> int:
    """Return how many rows are there; 0 if the file that says so is missing or damaged."""
    try:
        return int(read_json(state)["done"])
    except (ProjheadsError, KeyError, TypeError, ValueError):
        return 0


def _lines(teaching: Teaching, scores: np.ndarray) -> Iterator[bytes]:
    """Yield the file's lines with scores, each the shortest decimal that reads back as the same float32."""
    yield (json.dumps({"about": teaching.about()}, ensure_ascii=False) + "\n").encode()
    rows, chosen, place = iter(scores), set(teaching.chosen.tolist()), 0
    with teaching.path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            value = json.loads(raw) if raw.strip() else None
            if value is None or (number == 1 and "about" in value):
                continue
            if place in chosen:
                value["scores"] = [float(str(score)) for score in next(rows)]
                parse_row(value)
                yield (json.dumps(value, ensure_ascii=False) + "\n").encode()
            place += 1
