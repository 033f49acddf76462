"""The queries that gained and lost the most: what a difference in the mean consists of."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.report.groups import query_weight
from eval.report.results import Trial
from eval.report.table import Leaderboard, Row

__all__ = ["DatasetQueries", "Document", "QueryChange", "SeedChange", "changed_queries", "shown_variant"]

SHOWN = 4
"""Number of queries that gained, and of queries that lost, to show."""

TOP = 3
"""Number of documents to show for each query."""


@dataclass(frozen=True)
class Document:
    """A document in a ranking; ``text`` is empty if none was kept."""

    id: str
    text: str
    relevant: bool


@dataclass(frozen=True)
class SeedChange:
    """One query with one seed of the baseline and one of the variant, the same seed if both have common ones.

    Attributes:
        seed: The variant's seed.
        baseline: The query's score under the baseline.
        variant: Its score under the variant.
        baseline_rank: Rank of the first relevant document under the baseline; None if none was found.
        variant_rank: The same under the variant.
    """

    seed: int
    baseline: float
    variant: float
    baseline_rank: int | None
    variant_rank: int | None


@dataclass(frozen=True)
class QueryChange:
    """One query, with its scores under the baseline and a variant, and the rankings of one seed.

    Attributes:
        id: The query's id.
        text: Its text; empty if none was kept.
        baseline: Its score under the baseline, mean over the seeds that both have, or over all if none.
        variant: Its score under the variant.
        seeds: Each seed.
        shown: The seed with the largest change of the mean's sign: its rankings are shown.
        baseline_top: The baseline's top documents with that seed.
        variant_top: The variant's top documents with that seed.
    """

    id: str
    text: str
    baseline: float
    variant: float
    seeds: tuple[SeedChange, ...]
    shown: SeedChange
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
    baseline = board.baseline_of(row.label)
    mine, theirs = board.scores[row.label], board.scores[baseline]
    common = [seed for seed in mine.seeds if seed in theirs.seeds]
    trials = {(trial.label, trial.seed): trial for trial in board.experiment.trials}
    shorter = min(len(theirs.seeds), len(mine.seeds))
    base_seeds, seeds = (common, common) if common else (theirs.seeds[:shorter], mine.seeds[:shorter])
    pairs = [(trials[baseline, one], trials[row.label, other]) for one, other in zip(base_seeds, seeds, strict=True)]
    tables = zip(theirs.at(base_seeds), mine.at(seeds), strict=True)
    return [
        _changed(board, dataset, before, after, pairs)
        for dataset, (before, after) in zip(board.datasets, tables, strict=True)
    ]


def _changed(
    board: Leaderboard,
    dataset: str,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    pairs: Sequence[tuple[Trial, Trial]],
) -> DatasetQueries:
    """Choose the queries of a dataset; ``pairs`` are the trials, the baseline's and the variant's, of each seed."""
    ids = board.queries[dataset]
    change = after.mean(axis=0) - before.mean(axis=0)
    order = np.argsort(-change, kind="stable")
    gained = [int(place) for place in order[:SHOWN] if change[place] > 0]
    lost = [int(place) for place in order[::-1][:SHOWN] if change[place] < 0]
    runs = [tuple(one.evaluations[dataset].read_run() for one in pair) for pair in pairs]
    texts, qrels = board.experiment.texts(dataset), board.experiment.qrels(dataset)

    def shown(place: int) -> QueryChange:
        query = ids[place]
        weight = query_weight(board.datasets[dataset], query)
        judged = {document for document, value in qrels.get(query, {}).items() if value > 0}
        seeds = [
            SeedChange(
                trial.seed,
                float(before[number, place]) / weight,
                float(after[number, place]) / weight,
                *(_first_relevant(run.get(query, ()), judged) for run in runs[number]),
            )
            for number, (_, trial) in enumerate(pairs)
        ]
        number = int(np.argmax(np.sign(change[place]) * (after[:, place] - before[:, place])))
        tops = [
            tuple(Document(name, texts.documents.get(name, ""), name in judged) for name, _ in run.get(query, ())[:TOP])
            for run in runs[number]
        ]
        return QueryChange(
            id=query,
            text=texts.queries.get(query, ""),
            baseline=float(before[:, place].mean()) / weight,
            variant=float(after[:, place].mean()) / weight,
            seeds=tuple(seeds),
            shown=seeds[number],
            baseline_top=tops[0],
            variant_top=tops[1],
        )

    return DatasetQueries(
        dataset=dataset,
        gained=tuple(map(shown, gained)),
        lost=tuple(map(shown, lost)),
        up=int((change > 0).sum()),
        down=int((change < 0).sum()),
        same=int((change == 0).sum()),
    )


def _first_relevant(ranking: Sequence[tuple[str, float]], relevant: Collection[str]) -> int | None:
    return next((rank for rank, (document, _) in enumerate(ranking, start=1) if document in relevant), None)
