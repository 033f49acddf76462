"""The leaderboard as a LaTeX table for a paper: booktabs, nothing else to load."""

from eval.report import format as fmt
from eval.report.answer import answer
from eval.report.table import Leaderboard, Row

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
    columns = "l" + "r" * len(board.experiment.measures) + "rlr"
    header = ["head", *board.experiment.measures, f"difference to {board.baseline}", "verdict", "multiply-adds"]
    variants = [_line(_cells(board, row), bold=row.kind == "baseline") for row in board.rows]
    references = [_line(_cells(board, row)) for row in board.references]
    lines = [
        r"% \usepackage[T1]{fontenc} \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(answer(board))} Points (times 100), mean $\pm$ spread over seeds; differences are paired",
        r"by query and seed, with 95\% intervals; verdicts after Holm's correction.}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line(header),
        r"\midrule",
        *variants,
        *([r"\midrule", *references] if references else []),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Write any text so that LaTeX typesets it as it stands; what its T1 fonts lack becomes a question mark."""
    one_line = " ".join(text.split())
    return "".join(SPECIAL.get(letter) or (letter if letter in LETTERS else "?") for letter in one_line)


def _letters() -> frozenset[str]:
    """Return the letters that pdfLaTeX takes as they stand: printable ASCII and those of Western Europe."""
    codes = [*range(0x20, 0x7F), *range(0xC0, 0xD7), *range(0xD8, 0xF7), *range(0xF8, 0x100)]
    return frozenset(map(chr, codes))


LETTERS = _letters()


def _cells(board: Leaderboard, row: Row) -> list[str]:
    verdict, costs = row.verdict, row.costs
    return [
        row.label,
        *(fmt.mean_and_spread(row.mean(measure), row.spread(measure)) for measure in board.experiment.measures),
        fmt.change(verdict) if verdict else "",
        verdict.word if verdict else row.kind,
        fmt.count(costs.multiply_adds) if costs else "",
    ]


def _line(cells: list[str], *, bold: bool = False) -> str:
    # A cell that starts with a bracket would be read as the option of the line break above it; braces prevent that.
    written = [f"{{{escape(cell)}}}" if cell else "" for cell in cells]
    if bold:
        written[0] = rf"\textbf{written[0]}"
    return " & ".join(written) + r" \\"
