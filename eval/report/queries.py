"""The queries that gained and lost the most: what a difference in the mean consists of."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.report.groups import query_weight
from eval.report.results import Trial
from eval.report.table import Leaderboard, Row
from experiment.disk.records import TextsRecord

__all__ = ["DatasetQueries", "Document", "QueryChange", "changed_queries", "shown_variant"]

SHOWN = 4
"""Number of queries that gained, and of queries that lost, to show."""

TOP = 3
"""Number of documents to show for each query."""


@dataclass(frozen=True)
class Document:
    """A document in a ranking; ``text`` is empty if none was kept."""

    id: str
    text: str


@dataclass(frozen=True)
class QueryChange:
    """One query, with its scores and top documents under the baseline and a variant.

    Attributes:
        id: The query's id.
        text: Its text; empty if none was kept.
        baseline: Its score under the baseline, mean over the seeds that both have, or over all if none.
        variant: Its score under the variant.
        baseline_top: The baseline's top documents, with the first seed that both have.
        variant_top: The variant's top documents, with the same seed.
    """

    id: str
    text: str
    baseline: float
    variant: float
    baseline_top: tuple[Document, ...]
    variant_top: tuple[Document, ...]


@dataclass(frozen=True)
class DatasetQueries:
    """The queries of one dataset that changed the most, the largest change first, and how many changed overall."""

    dataset: str
    gained: tuple[QueryChange, ...]
    lost: tuple[QueryChange, ...]
    up: int
    down: int
    same: int


def shown_variant(board: Leaderboard) -> Row | None:
    """Return the variant whose queries are shown: of those with a verdict, the one with the best mean."""
    return next((row for row in board.rows if row.verdict is not None), None)


def changed_queries(board: Leaderboard, row: Row) -> list[DatasetQueries]:
    """Return the queries of each dataset that a variant changed the most.

    Args:
        board: The leaderboard.
        row: A variant with a verdict.
    """
    mine, theirs = board.scores[row.label], board.scores[board.baseline]
    common = [seed for seed in mine.seeds if seed in theirs.seeds]
    trials = {(trial.label, trial.seed): trial for trial in board.experiment.trials}
    base_seeds, seeds = (common, common) if common else (theirs.seeds, mine.seeds)
    first = trials[board.baseline, base_seeds[0]], trials[row.label, seeds[0]]
    tables = zip(theirs.at(base_seeds), mine.at(seeds), strict=True)
    return [
        _changed(board, dataset, before.mean(axis=0), after.mean(axis=0), first)
        for dataset, (before, after) in zip(board.datasets, tables, strict=True)
    ]


def _changed(
    board: Leaderboard,
    dataset: str,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    trials: tuple[Trial, Trial],
) -> DatasetQueries:
    """Choose the queries of a dataset; ``trials``, the baseline's and the variant's, have the rankings to show."""
    ids, texts = board.queries[dataset], board.experiment.texts(dataset)
    change = after - before
    order = np.argsort(-change, kind="stable")
    gained = [int(place) for place in order[:SHOWN] if change[place] > 0]
    lost = [int(place) for place in order[::-1][:SHOWN] if change[place] < 0]
    chosen = {ids[place] for place in gained + lost}
    weights = {query: query_weight(board.datasets[dataset], query) for query in chosen}
    baseline_top, variant_top = (_top_documents(trial, dataset, chosen, texts) for trial in trials)

    def shown(place: int) -> QueryChange:
        query = ids[place]
        return QueryChange(
            id=query,
            text=texts.queries.get(query, ""),
            baseline=float(before[place]) / weights[query],
            variant=float(after[place]) / weights[query],
            baseline_top=baseline_top.get(query, ()),
            variant_top=variant_top.get(query, ()),
        )

    return DatasetQueries(
        dataset=dataset,
        gained=tuple(map(shown, gained)),
        lost=tuple(map(shown, lost)),
        up=int((change > 0).sum()),
        down=int((change < 0).sum()),
        same=int((change == 0).sum()),
    )


def _top_documents(
    trial: Trial, dataset: str, queries: Iterable[str], texts: TextsRecord
) -> dict[str, tuple[Document, ...]]:
    run = trial.evaluations[dataset].read_run()
    return {
        query: tuple(Document(name, texts.documents.get(name, "")) for name, _ in run[query][:TOP])
        for query in queries
        if query in run
    }
