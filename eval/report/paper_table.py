"""What evaluating the published collections takes, printed or as a table."""

from typing import Any

from eval.on_paper import COLLECTIONS, Evaluation, paper_needs
from eval.report.format import bytes_text

__all__ = ["HEADER", "print_sizes", "sizes_rows", "sizes_value"]

HEADER = ("", "documents", "disk stored", "disk streamed", "memory", "FLOP", "hours", "stored", "streamed")
"""Columns of ``sizes_rows``; the hours are those of one worker and, stored and streamed, of several."""


def sizes_value(evaluation: Evaluation, *, speed: float, workers: int) -> list[dict[str, Any]]:
    """Return what every collection takes, the last row for all of them one after the other.

    Args:
        evaluation: What is evaluated.
        speed: Floating-point operations a second that a worker reaches.
        workers: How many workers there are.
    """
    rows: list[dict[str, Any]] = [
        {
            "collection": name,
            "documents": work.documents,
            "token_vectors": work.document_tokens,
            "stored_bytes": stored.disk,
            "streamed_bytes": streamed.disk,
            "memory_bytes": streamed.memory,
            "flop": stored.flop,
            "hours": streamed.hours(speed),
            "stored_hours": stored.hours(speed, workers),
            "streamed_hours": streamed.hours(speed, workers),
        }
        for name, (work, stored, streamed) in paper_needs(evaluation, COLLECTIONS).items()
    ]
    most = {name: max(row[name] for row in rows) for name in ("stored_bytes", "streamed_bytes", "memory_bytes")}
    summed = ("documents", "token_vectors", "flop", "hours", "stored_hours", "streamed_hours")
    return [*rows, {"collection": "all"} | most | {name: sum(row[name] for row in rows) for name in summed}]


def sizes_rows(evaluation: Evaluation, *, speed: float, workers: int) -> list[list[str]]:
    """Return ``sizes_value`` as the cells of a table with the columns ``HEADER``."""
    return [
        [
            row["collection"],
            f"{row['documents']:,}",
            bytes_text(row["stored_bytes"]),
            bytes_text(row["streamed_bytes"]),
            bytes_text(row["memory_bytes"]),
            f"{row['flop']:.1e}",
            *(f"{row[name]:.2f}" for name in ("hours", "stored_hours", "streamed_hours")),
        ]
        for row in sizes_value(evaluation, speed=speed, workers=workers)
    ]


def print_sizes(evaluation: Evaluation, *, speed: float, workers: int) -> None:
    """Print what every collection takes."""
    rows = [list(HEADER), *sizes_rows(evaluation, speed=speed, workers=workers)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(
        f"On paper, at {speed:.1e} floating-point operations a second: hours of one worker, and of {workers} with the "
        "token vectors stored and streamed. Disk and memory are the most at one time; the last row has the largest."
    )
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *cells]))
