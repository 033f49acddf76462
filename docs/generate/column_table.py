"""The table of the leaderboard's columns in the guide, from the columns themselves."""

from text import inline, table

from eval.report.columns import COLUMNS, Column

__all__ = ["column_tables"]


def column_tables() -> str:
    """Return the Markdown of two tables: the columns of the page, and those that only the data files have."""
    page = [column for column in COLUMNS if "html" in column.forms]
    data = [column for column in COLUMNS if "csv" in column.forms and column not in page]
    return "\n\n".join(
        [
            table(
                ["column", "unit", "what it shows"],
                [[_filled(column, column.title, "*"), column.unit, inline(column.explanation)] for column in page],
            ),
            "The CSV and JSON files have the same columns, unrounded and from 0 to 1, and these:",
            table(
                ["column", "what it shows"],
                [[f"`{_filled(column, column.name)}`", inline(column.explanation)] for column in data],
            ),
        ]
    )


def _filled(column: Column, template: str, mark: str = "") -> str:
    """Fill in a name or title: what a repeated column is repeated for, between marks or angle brackets."""
    what = column.each[0] if column.each else ""
    return template.format(key=f"{mark}{what}{mark}" if mark else f"<{what}>", measure="nDCG@10")
