"""The leaderboard as a LaTeX table for a paper; it needs only booktabs."""

from eval.report import format as fmt
from eval.report.answer import answer
from eval.report.columns import board_columns
from eval.report.table import Leaderboard

__all__ = ["escape", "latex_text"]

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\N{MINUS SIGN}": r"$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{EN DASH}": "--",
}


def latex_text(board: Leaderboard) -> str:
    r"""Return leaderboard.tex: a ``table`` to ``\input`` into a paper that loads booktabs and T1 fonts."""
    columns = board_columns(board, "latex")
    variants, references = (
        [_line([column.text(row) for column in columns], bold=row.kind == "baseline") for row in rows]
        for rows in (board.rows, board.references)
    )
    lines = [
        r"% \usepackage[T1]{fontenc} \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(answer(board))} Points (times 100), mean $\pm$ standard deviation over seeds;",
        rf"differences from {escape(board.against)} with 95\% intervals, for these queries and for new ones;",
        r"intervals and verdicts are corrected for the number of variants.}",
        rf"\begin{{tabular}}{{{''.join('l' if column.column.kind == 'text' else 'r' for column in columns)}}}",
        r"\toprule",
        _line([column.title for column in columns]),
        r"\midrule",
        *variants,
        *([r"\midrule", *references] if references else []),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Write any text so that LaTeX typesets it literally; characters that its T1 fonts lack become question marks."""
    return "".join(SPECIAL.get(letter) or (letter if letter in LETTERS else "?") for letter in fmt.one_line(text))


def _letters() -> frozenset[str]:
    """Return the characters that pdfLaTeX takes literally: printable ASCII and those of Western Europe."""
    codes = [*range(0x20, 0x7F), *range(0xC0, 0xD7), *range(0xD8, 0xF7), *range(0xF8, 0x100)]
    return frozenset(map(chr, codes))


LETTERS = _letters()


def _line(cells: list[str], *, bold: bool = False) -> str:
    # LaTeX would read a bracket at the start of a cell as the option of the line break before it; braces prevent that.
    written = [f"{{{escape(cell)}}}" if cell else "" for cell in cells]
    if bold:
        written[0] = rf"\textbf{written[0]}"
    return " & ".join(written) + r" \\"
