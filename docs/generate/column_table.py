"""The table of the leaderboard's columns in the guide, from the columns themselves."""

from text import inline, table

from eval.report.columns import COLUMNS, Column

__all__ = ["column_tables"]


def column_tables() -> str:
    """Return the Markdown of two tables: the columns of the page, and those that only the data files have."""
    page = [column for column in COLUMNS if "html" in column.forms]
    data = [column for column in COLUMNS if "html" not in column.forms and "csv" in column.forms]
    return "\n\n".join(
        [
            table(["column", "unit", "what it shows"], [_row(column, column.title, column.unit) for column in page]),
            "The CSV and JSON files have the same columns, unrounded and from 0 to 1, and these:",
            table(["column", "what it shows"], [_row(column, f"`{column.name}`") for column in data]),
        ]
    )


def _row(column: Column, *cells: str) -> list[str]:
    what = f"*{column.each[0]}*" if column.each else ""
    named = [cell.format(key=what, measure="nDCG@10") for cell in cells]
    return [inline(cell) for cell in (*named, column.explanation)]
