"""The columns of the leaderboard. Every format and the guide show what this table lists; a new column is one entry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from eval.report import format as fmt
from eval.report.linearised import has_linearised, if_linearised
from eval.report.table import Leaderboard, Row
from eval.report.words import TONES, verdict_cell

__all__ = ["COLUMNS", "BoardColumn", "Cell", "Column", "Value", "board_columns"]

Value: TypeAlias = float | str | bool | None

DATA = ("csv", "json")
PAGES = ("html", "markdown", *DATA)
PAPER = ("html", "markdown", "latex", *DATA)
EVERYWHERE = ("html", "markdown", "latex", "console", *DATA)


@dataclass(frozen=True)
class Cell:
    """A place in the table: the leaderboard, one of its rows, and, in a repeated column, what it is repeated for."""

    board: Leaderboard
    row: Row
    key: str


@dataclass(frozen=True)
class Column:
    """One column, or one for each of several measures, datasets or forms of storage.

    Attributes:
        name: Its key in the data files; ``{key}`` and ``{measure}`` are filled in.
        title: Its heading for readers; likewise.
        explanation: One sentence that explains it: the tooltip of the page, and its line in the guide.
        value: The unrounded value in the data files; None if the row has none.
        forms: The formats that show it, by their names in ``eval.report.write.FORMATS``, and ``console``.
        unit: Its unit in the formats for readers.
        write: How a value is written for readers.
        text: What readers see, if that takes more than the value.
        sort: What it is sorted by; the value if not given.
        kind: Numbers are right-aligned and sort from large to small at first.
        toned: Whether it takes the colour of the row's verdict.
        each: What a repeated column is repeated for: a word for the guide, and the keys.
    """

    name: str
    title: str
    explanation: str
    value: Callable[[Cell], Value]
    forms: Sequence[str]
    unit: str = ""
    write: Callable[[Any], str] = str
    text: Callable[[Cell], str] | None = None
    sort: Callable[[Cell], Value] | None = None
    kind: Literal["number", "text"] = "number"
    toned: bool = False
    each: tuple[str, Callable[[Leaderboard], Sequence[str]]] | None = None


@dataclass(frozen=True, eq=False)
class BoardColumn:
    """A column of one leaderboard, its name and title filled in."""

    column: Column
    board: Leaderboard
    key: str

    @property
    def name(self) -> str:
        """Its key in the data files."""
        return self.column.name.format(key=self.key, measure=self.board.measure)

    @property
    def title(self) -> str:
        """Its heading."""
        return self.column.title.format(key=self.key, measure=self.board.measure)

    def value(self, row: Row) -> Value:
        """Return a row's unrounded value."""
        return self.column.value(Cell(self.board, row, self.key))

    def text(self, row: Row) -> str:
        """Return what readers see in a row."""
        if self.column.text is not None:
            return self.column.text(Cell(self.board, row, self.key))
        value = self.value(row)
        return "" if value is None else self.column.write(value)

    def sort(self, row: Row) -> Value:
        """Return what a row is sorted by; None sorts last."""
        return (self.column.sort or self.column.value)(Cell(self.board, row, self.key))


def board_columns(board: Leaderboard, form: str) -> list[BoardColumn]:
    """Return the columns that a format shows of a leaderboard; the first names the row."""
    return [
        BoardColumn(column, board, key)
        for column in COLUMNS
        if form in column.forms
        for key in (column.each[1](board) if column.each else [""])
    ]


def _verdict(name: str) -> Callable[[Cell], Value]:
    return lambda cell: getattr(cell.row.verdict, name, None)


def _scope(name: str) -> Callable[[Cell], Value]:
    return lambda cell: getattr(cell.row.verdict.new_queries, name) if cell.row.verdict else None


def _cost(name: str) -> Callable[[Cell], Value]:
    return lambda cell: getattr(cell.row.costs, name, None)


def _stored(name: str) -> Callable[[Cell], Value]:
    return lambda cell: next((getattr(one, name) for one in cell.row.stored if one.form == cell.key), None)


def _groups(cell: Cell) -> Sequence[str]:
    return cell.board.letters.get(cell.row.label, ()) if cell.row.kind != "reference" else ()


def _forms(board: Leaderboard) -> Sequence[str]:
    return list(dict.fromkeys(one.form for row in board.rows for one in row.stored))


MEASURE = Column(
    "{key}",
    "{key}",
    "Mean over datasets and seeds, ± the standard deviation over seeds; the verdicts are about this measure.",
    lambda cell: cell.row.mean(cell.key),
    EVERYWHERE,
    unit="points",
    text=lambda cell: fmt.mean_and_spread(cell.row.mean(cell.key), cell.row.spread(cell.key)),
    each=("first measure", lambda board: [board.measure]),
)

COLUMNS: tuple[Column, ...] = (
    Column(
        "label",
        "variant",
        "The head with its options, as in the configuration; a reference row is in italics or grey.",
        lambda cell: cell.row.label,
        EVERYWHERE,
        kind="text",
    ),
    Column("kind", "kind", "variant, baseline or reference.", lambda cell: cell.row.kind, DATA, kind="text"),
    Column("seeds", "seeds", "Number of seeds whose trials count.", lambda cell: len(cell.row.seeds), DATA),
    Column("missing", "missing", "Number of trials that do not count.", lambda cell: len(cell.row.failures), DATA),
    MEASURE,
    Column(
        "difference",
        "difference [95%]",
        "Difference from the baseline with its 95% interval, paired by query and seed.",
        _verdict("difference"),
        EVERYWHERE,
        unit="points",
        text=lambda cell: fmt.change(cell.row.verdict) if cell.row.verdict else "",
        toned=True,
    ),
    Column("low", "low", "Lower end of the interval of the difference.", _scope("low"), DATA),
    Column("high", "high", "Upper end of the interval of the difference.", _scope("high"), DATA),
    Column("p_value", "p", "Two-sided p-value of no difference.", _scope("p_value"), DATA),
    Column("adjusted_p", "adjusted p", "The same after Holm's correction over variants.", _scope("adjusted_p"), DATA),
    Column(
        "verdict",
        "verdict",
        f"One of: {', '.join(TONES)}; corrected for the number of variants (Holm).",
        _verdict("word"),
        EVERYWHERE,
        text=lambda cell: verdict_cell(cell.row),
        kind="text",
        toned=True,
    ),
    Column(
        "smallest_shown",
        "detectable",
        "The smallest true difference that this experiment detects with a probability of 80%.",
        _verdict("smallest_shown"),
        PAGES,
        unit="points",
        write=fmt.rough,
    ),
    Column(
        "groups",
        "group",
        "Variants that share a letter are not distinguishable from each other.",
        lambda cell: " ".join(_groups(cell)) or None,
        ("html", *DATA),
        text=lambda cell: fmt.group(_groups(cell)),
        kind="text",
    ),
    Column(
        "beats",
        "beats baseline",
        "Probability that a new seed of the variant scores above a new seed of the baseline.",
        _verdict("beats"),
        ("html", *DATA),
        write=fmt.chance,
    ),
    replace(
        MEASURE,
        explanation="Mean over datasets and seeds, ± the standard deviation over seeds; it has no verdict.",
        forms=PAPER,
        each=("other measures", lambda board: board.experiment.measures[1:]),
    ),
    Column(
        "{key} spread",
        "{key} spread",
        "Standard deviation over seeds.",
        lambda cell: cell.row.spread(cell.key),
        DATA,
        each=("measure", lambda board: board.experiment.measures),
    ),
    Column(
        "{measure} {key}",
        "{measure} {key}",
        "Mean over seeds on one dataset, if there are several.",
        lambda cell: cell.row.mean(cell.board.measure, cell.key),
        DATA,
        each=("dataset", lambda board: list(board.datasets) if len(board.datasets) > 1 else []),
    ),
    Column(
        "parameters",
        "parameters",
        "Parameters of the head.",
        _cost("parameters"),
        PAGES,
        write=fmt.count,
    ),
    Column(
        "params", "params", "Parameters of the head, rounded.", _cost("parameters"), ("console",), write=fmt.short_count
    ),
    Column(
        "multiply_adds",
        "multiply-adds per token",
        "Multiply-adds of the head for one token at inference, before folding.",
        _cost("multiply_adds"),
        PAPER,
        write=fmt.count,
    ),
    Column(
        "folds",
        "folds",
        "Whether the head can be replaced by one matrix that gives the same embeddings.",
        _cost("folds"),
        PAGES,
        write=lambda folds: "yes" if folds else "no",
        kind="text",
    ),
    Column(
        "train_s",
        "training",
        "Training time of one trial, mean over seeds.",
        _cost("train_s"),
        PAGES,
        write=fmt.seconds,
    ),
    Column(
        "{measure} if linearised",
        "{measure} if linearised",
        "Score with the head replaced by its best linear approximation; the rest is due to its nonlinearity.",
        lambda cell: if_linearised(cell.board, cell.row),
        PAGES,
        unit="points",
        write=fmt.points,
        each=("", lambda board: [""] if has_linearised(board) else []),
    ),
    Column(
        "encode_per_s",
        "texts per second",
        "Texts encoded per second, queries and documents together.",
        _cost("encode_per_s"),
        ("html", *DATA),
        write=fmt.count,
    ),
    Column(
        "index_bytes",
        "index",
        "Size of the index over all datasets; exact search has none.",
        _cost("index_bytes"),
        ("html", *DATA),
        write=fmt.bytes_text,
    ),
    Column(
        "learning_rates",
        "learning rate",
        "Learning rate of the trials; with a sweep, the one that held-out pairs chose.",
        lambda cell: " ".join(map(repr, cell.row.costs.learning_rates)) if cell.row.costs else None,
        PAGES,
        text=lambda cell: fmt.rates(cell.row.costs) if cell.row.costs else "",
        sort=lambda cell: next(iter(cell.row.costs.learning_rates), None) if cell.row.costs else None,
    ),
    Column(
        "chosen",
        "chosen",
        "Everything that the sweep chose.",
        lambda cell: cell.row.costs.chosen.text() if cell.row.costs and cell.row.costs.chosen else None,
        DATA,
        kind="text",
    ),
    Column(
        "{measure} {key}",
        "{measure} {key}",
        "Score with the token vectors stored in this form.",
        _stored("score"),
        DATA,
        each=("form of storage", _forms),
    ),
    Column(
        "index_bytes {key}",
        "index {key}",
        "Bytes of the token vectors stored in this form.",
        _stored("index_bytes"),
        DATA,
        each=("form of storage", _forms),
    ),
)
"""The columns, in the order of every format."""
