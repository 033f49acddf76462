"""The queries that gained and lost most: what a difference in the mean is made of."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.report.load import Texts, Trial
from eval.report.table import Leaderboard, Row

__all__ = ["DatasetQueries", "Document", "QueryChange", "changed_queries", "shown_variant"]

SHOWN = 4
"""Queries shown on each side."""

TOP = 3
"""Documents shown for each query."""


@dataclass(frozen=True)
class Document:
    """A document of a ranking; ``text`` is empty where none was kept."""

    id: str
    text: str


@dataclass(frozen=True)
class QueryChange:
    """One query under the baseline and under a variant.

    Attributes:
        id: The query's id.
        text: Its text; empty where none was kept.
        baseline: Its score under the baseline, mean over the common seeds.
        variant: Its score under the variant.
        baseline_top: The baseline's best documents, of its first common seed.
        variant_top: The variant's best documents.
    """

    id: str
    text: str
    baseline: float
    variant: float
    baseline_top: tuple[Document, ...]
    variant_top: tuple[Document, ...]


@dataclass(frozen=True)
class DatasetQueries:
    """One data set's queries that changed most, the largest change first, and how many changed in all."""

    dataset: str
    gained: tuple[QueryChange, ...]
    lost: tuple[QueryChange, ...]
    up: int
    down: int
    same: int


def shown_variant(board: Leaderboard) -> Row | None:
    """Return the variant whose queries are shown: the one with the best mean that is compared with the baseline."""
    return next((row for row in board.rows if row.verdict is not None), None)


def changed_queries(board: Leaderboard, row: Row) -> list[DatasetQueries]:
    """Return, for each data set, the queries that a variant changed most.

    Args:
        board: The leaderboard.
        row: One of its variants that has a verdict.
    """
    mine, theirs = board.scores[row.label], board.scores[board.baseline]
    common = [seed for seed in mine.seeds if seed in theirs.seeds]
    trials = {(trial.label, trial.seed): trial for trial in board.experiment.trials}
    variant, baseline = trials[row.label, common[0]], trials[board.baseline, common[0]]
    result = []
    for index, dataset in enumerate(board.datasets):
        ids = board.queries[dataset]
        after, before = mine.at(common)[index].mean(axis=0), theirs.at(common)[index].mean(axis=0)
        change = after - before
        order = np.argsort(-change, kind="stable")
        gained = [int(place) for place in order[:SHOWN] if change[place] > 0]
        lost = [int(place) for place in order[::-1][:SHOWN] if change[place] < 0]
        texts = board.experiment.texts(dataset)
        chosen = {ids[place] for place in gained + lost}
        tops = [_top_documents(trial, dataset, chosen, texts) for trial in (baseline, variant)]
        made = {
            place: QueryChange(
                id=ids[place],
                text=texts.queries.get(ids[place], ""),
                baseline=float(before[place]),
                variant=float(after[place]),
                baseline_top=tops[0].get(ids[place], ()),
                variant_top=tops[1].get(ids[place], ()),
            )
            for place in gained + lost
        }
        result.append(
            DatasetQueries(
                dataset=dataset,
                gained=tuple(made[place] for place in gained),
                lost=tuple(made[place] for place in lost),
                up=int((change > 0).sum()),
                down=int((change < 0).sum()),
                same=int((change == 0).sum()),
            )
        )
    return result


def _top_documents(trial: Trial, dataset: str, queries: Iterable[str], texts: Texts) -> dict[str, tuple[Document, ...]]:
    wanted = set(queries)
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for query, document, rank in _run_lines(trial.evaluations[dataset].run):
        if query in wanted:
            found[query].append((rank, document))
    return {
        query: tuple(Document(name, texts.documents.get(name, "")) for _, name in sorted(documents)[:TOP])
        for query, documents in found.items()
    }


def _run_lines(path: Path) -> Sequence[tuple[str, str, int]]:
    """Read (query, document, rank) of a TREC run file; none where the file was not kept."""
    if not path.exists():
        return []
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return [(fields[0], fields[2], int(fields[3])) for fields in lines if len(fields) == 6]
