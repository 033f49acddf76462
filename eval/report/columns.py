"""The columns of the leaderboard. Every format and the guide show what this table lists; a new column is one entry."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from eval.report import format as fmt
from eval.report.linearised import has_linearised, if_linearised
from eval.report.table import Leaderboard, Row
from eval.report.words import TONES, left_race, tone, verdict_cell

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
    """One column, or one for each of several measures, datasets, or forms of storage and search.

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
        toned: Whether it takes the colour of the row's verdict for these queries or for new ones.
        each: What a repeated column is repeated for: a word for the guide, and the keys.
        extra: Whether the page hides it until a reader chooses it.
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
    toned: Literal["", "these", "new"] = ""
    each: tuple[str, Callable[[Leaderboard], Sequence[str]]] | None = None
    extra: bool = False


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


def _new(name: str) -> Callable[[Cell], Value]:
    return lambda cell: getattr(cell.row.verdict.new_queries, name) if cell.row.verdict else None


def _here(name: str) -> Callable[[Cell], Value]:
    return lambda cell: getattr(cell.row.verdict.these_queries, name) if cell.row.verdict else None


def _lines(cell: Cell) -> str:
    """Write both intervals for a terminal, one below the other."""
    verdict = cell.row.verdict
    if verdict is None:
        return ""
    return "\n".join(filter(None, [fmt.change(verdict.these_queries), fmt.span(verdict.new_queries)]))


def _words(cell: Cell) -> str:
    """Write both verdicts for a terminal, one below the other."""
    verdict = cell.row.verdict
    if verdict is None:
        return verdict_cell(cell.board, cell.row)
    words = [
        scope.word.replace("no difference shown", "not shown") for scope in (verdict.these_queries, verdict.new_queries)
    ]
    if tone(verdict) == "open" and (left := left_race(cell.board, cell.row)):
        words = [left]
    failed = [f"{len(cell.row.failures)} missing"] if cell.row.failures else []
    return "\n".join([*words, *failed])


def _cost(name: str) -> Callable[[Cell], Value]:
    return lambda cell: getattr(cell.row.costs, name, None)


def _stored(name: str) -> Callable[[Cell], Value]:
    return lambda cell: next((getattr(one, name) for one in cell.row.stored if one.form == cell.key), None)


def _groups(cell: Cell) -> Sequence[str]:
    return cell.board.letters.get(cell.row.label, ()) if cell.row.kind != "reference" else ()


def _diagnostics(board: Leaderboard) -> Sequence[str]:
    return [name for name in DIAGNOSTICS if name in board.explanations]


def _diagnostic(cell: Cell) -> Value:
    found = cell.board.explanations[cell.key]
    return found.mean(found.parts[0], cell.row.label) if found.parts else None


def _forms(board: Leaderboard) -> Sequence[str]:
    return list(dict.fromkeys(one.form for row in board.rows for one in row.stored))


DIAGNOSTICS = ("mean-cosine", "effective-rank", "hubness")
"""The diagnostics that have a column; the page Why has the others."""

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
        "these queries [95%]",
        "Difference from the baseline on these queries, with an interval for new seeds of both.",
        _verdict("difference"),
        ("html", "markdown", "latex", *DATA),
        unit="points",
        text=lambda cell: fmt.change(cell.row.verdict.these_queries) if cell.row.verdict else "",
        toned="these",
    ),
    Column(
        "these_and_new",
        "difference [95%]",
        "Difference from the baseline with its interval for these queries, and below it the interval for new queries.",
        _verdict("difference"),
        ("console",),
        text=_lines,
        toned="these",
    ),
    Column(
        "these_low",
        "low",
        "Lower end of the interval on these queries; all variants' intervals cover the truth together in 95%.",
        _here("low"),
        DATA,
    ),
    Column("these_high", "high", "Upper end of the interval on these queries.", _here("high"), DATA),
    Column(
        "these_adjusted_p",
        "adjusted p",
        "p-value of no difference on these queries, corrected for the number of variants.",
        _here("adjusted_p"),
        DATA,
    ),
    Column("these_verdict", "verdict", "The verdict for these queries.", _here("word"), DATA, kind="text"),
    Column(
        "ahead",
        "seeds ahead",
        "In how many seeds the variant scores above the baseline; empty unless both begin from the same map.",
        lambda cell: cell.row.verdict.ahead if cell.row.verdict else None,
        ("html", *DATA),
        text=lambda cell: fmt.ahead(cell.row.verdict) if cell.row.verdict else "",
    ),
    Column(
        "new_queries",
        "new queries [95%]",
        "Interval of the same difference for new queries of this kind, and new seeds of both.",
        _new("low"),
        ("html", "markdown", "latex"),
        text=lambda cell: fmt.span(cell.row.verdict.new_queries) if cell.row.verdict else "",
        toned="new",
    ),
    Column("low", "low", "Lower end of the interval for new queries.", _new("low"), DATA),
    Column("high", "high", "Upper end of the interval for new queries.", _new("high"), DATA),
    Column("p_value", "p", "Two-sided p-value of no difference for new queries.", _new("p_value"), DATA),
    Column("adjusted_p", "adjusted p", "The same, corrected for the number of variants.", _new("adjusted_p"), DATA),
    Column(
        "verdict",
        "verdict",
        f"For these queries and for new ones, one of: {', '.join(TONES)}; corrected for the number of variants.",
        _new("word"),
        ("html", "markdown", "latex", *DATA),
        text=lambda cell: verdict_cell(cell.board, cell.row),
        kind="text",
        toned="these",
    ),
    Column(
        "verdicts",
        "verdict",
        "For these queries, and below it for new ones.",
        _new("word"),
        ("console",),
        text=_words,
        kind="text",
        toned="these",
    ),
    Column(
        "smallest_shown_here",
        "detectable here",
        "The smallest true difference on these queries that this experiment detects with a probability of 80%.",
        _verdict("smallest_shown_here"),
        ("html", *DATA),
        unit="points",
        write=fmt.rough,
        extra=True,
    ),
    Column(
        "smallest_shown",
        "detectable",
        "The same for new queries.",
        _verdict("smallest_shown"),
        PAGES,
        unit="points",
        write=fmt.rough,
        extra=True,
    ),
    Column(
        "groups",
        "group",
        "Variants that share a letter are not distinguishable from each other.",
        lambda cell: " ".join(_groups(cell)) or None,
        ("html", *DATA),
        text=lambda cell: fmt.group(_groups(cell)),
        kind="text",
        extra=True,
    ),
    Column(
        "beats",
        "beats baseline",
        "Probability that a new seed of the variant scores above a new seed of the baseline.",
        _verdict("beats"),
        ("html", *DATA),
        write=fmt.chance,
        extra=True,
    ),
    replace(
        MEASURE,
        explanation="Mean over datasets and seeds, ± the standard deviation over seeds; it has no verdict.",
        forms=PAPER,
        each=("other measures", lambda board: board.experiment.measures[1:]),
        extra=True,
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
        extra=True,
    ),
    Column(
        "params", "params", "Parameters of the head, rounded.", _cost("parameters"), ("console",), write=fmt.short_count
    ),
    Column(
        "multiply_adds",
        "multiply-adds per token",
        "Multiply-adds of the head for one token, as trained.",
        _cost("multiply_adds"),
        PAPER,
        write=fmt.count,
    ),
    Column(
        "inference_multiply_adds",
        "at inference",
        "Multiply-adds of the head for one token in its cheapest equal form.",
        _cost("inference_multiply_adds"),
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
        extra=True,
    ),
    Column(
        "clipped",
        "clipped steps",
        "Share of the training steps whose gradient exceeded max_grad_norm and was scaled down, mean over seeds.",
        _cost("clipped"),
        PAGES,
        write=fmt.share,
    ),
    Column(
        "{key}",
        "{key}",
        "The diagnostic of this name for documents, mean over datasets and seeds; the page Why says what it means.",
        _diagnostic,
        PAGES,
        write=lambda value: f"{value:.3g}".replace("-", fmt.MINUS),
        each=("diagnostic, with eval.explain", _diagnostics),
        extra=True,
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
        extra=True,
    ),
    Column(
        "index_bytes",
        "index",
        "Size of the index over all datasets; exact search has none.",
        _cost("index_bytes"),
        ("html", *DATA),
        write=fmt.bytes_text,
        extra=True,
    ),
    Column(
        "learning_rates",
        "learning rate",
        "Learning rate of the trials; with a sweep, the one that held-out pairs or development queries chose.",
        lambda cell: " ".join(map(repr, cell.row.costs.learning_rates)) if cell.row.costs else None,
        PAGES,
        text=lambda cell: fmt.rates(cell.row.costs) if cell.row.costs else "",
        sort=lambda cell: next(iter(cell.row.costs.learning_rates), None) if cell.row.costs else None,
    ),
    Column(
        "chosen",
        "chosen",
        "Everything that the sweep chose.",
        lambda cell: cell.row.costs.chosen.text(json.dumps) if cell.row.costs and cell.row.costs.chosen else None,
        DATA,
        kind="text",
    ),
    Column(
        "{measure} {key}",
        "{measure} {key}",
        "Score with the token vectors stored in this form, or with this further search.",
        _stored("score"),
        DATA,
        each=("form of storage or search", _forms),
    ),
    Column(
        "index_bytes {key}",
        "index {key}",
        "Bytes of the token vectors stored in this form, or of the index of this further search.",
        _stored("index_bytes"),
        DATA,
        each=("form of storage or search", _forms),
    ),
    Column(
        "recall {key}",
        "found {key}",
        "Share of the documents of the evaluation's exact search that are found in this form or with this search too.",
        _stored("recall"),
        DATA,
        each=("form of storage or search", _forms),
    ),
)
"""The columns, in the order of every format."""
