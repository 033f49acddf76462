"""Where the gain sits: the difference from the baseline on groups of queries, such as those with rare words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.report.judged import points_of
from eval.report.table import Leaderboard, baselines_of
from eval.verdicts import Scores
from eval.verdicts.variance import differences
from experiment.disk.records import QueryFacts

__all__ = ["Band", "Split", "splits"]

NORMAL_95 = 1.959964
"""Normal value that 95% of draws do not exceed in size."""

BANDS = 4
"""Bands of about equally many queries, for properties that are numbers."""

LEAST_QUERIES = 5
"""Bands with fewer queries are left out."""

DECAY = "head_weight_decay"
"""The axis over which the differences in bands of frequency are shown too."""


@dataclass(frozen=True)
class Band:
    """A group of queries, with the differences on it.

    Attributes:
        name: Its limits.
        queries: Number of queries.
        differences: By row, the difference from its baseline and the ends of its 95% interval for new queries.
    """

    name: str
    queries: int
    differences: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Split:
    """The queries of all datasets by one property.

    Attributes:
        name: Names its files.
        title: Its heading.
        about: What the property is, and what a difference between bands means.
        where: Which queries a band has, with ``{}`` for its name: ``with {} words``.
        bands: The groups, in their order.
    """

    name: str
    title: str
    about: str
    where: str
    bands: Sequence[Band]


@dataclass(frozen=True)
class _Property:
    """A property of queries: its value, and how a value or the limits of a band are written."""

    name: str
    title: str
    about: str
    where: str
    value: Callable[[QueryFacts], float | None]
    write: Callable[[float], str] = lambda value: f"{value:g}"


def _share(value: float) -> str:
    return f"{float(f'{100 * value:.2g}'):g}%"


PROPERTIES = (
    _Property(
        "corpus-frequency",
        "Gain by the rarity of the query's words in the corpus",
        "The share of documents that have the query's rarest word. Weight decay is said to hurt rare words.",
        "whose rarest word is in {} of the documents",
        lambda facts: facts.in_corpus,
        _share,
    ),
    _Property(
        "training-frequency",
        "Gain by the rarity of the query's words in the training data",
        "The share of training texts that have the query's word that is rarest there.",
        "whose rarest word is in {} of the training texts",
        lambda facts: facts.in_training,
        _share,
    ),
    _Property(
        "query-length",
        "Gain by query length",
        "The number of words of the query.",
        "whose number of words is {}",
        lambda facts: float(facts.words),
    ),
    _Property(
        "document-length",
        "Gain by document length",
        "The number of token vectors of the longest relevant document.",
        "whose longest relevant document has {} token vectors",
        lambda facts: None if facts.document_length is None else float(facts.document_length),
    ),
    _Property(
        "truncated",
        "Gain where a relevant document was truncated",
        "Whether a relevant document exceeds the maximum length, so that its end was not read.",
        "with {} relevant documents",
        lambda facts: None if facts.truncated is None else float(facts.truncated),
        lambda value: "truncated" if value else "complete",
    ),
    _Property(
        "relevant",
        "Gain by the number of relevant documents",
        "The number of relevant documents of the query.",
        "whose number of relevant documents is {}",
        lambda facts: float(facts.relevant),
    ),
)


def splits(board: Leaderboard) -> list[Split]:
    """Split the queries by every property that is known and varies."""
    facts = {name: board.experiment.query_facts(name) for name in board.datasets}
    groups = points_of(board.scores, baselines_of(board.experiment))
    found = []
    for one in PROPERTIES:
        bands = _bands(groups, _values(board, facts, one), one.write)
        found.append(Split(f"gain-{one.name}", one.title, one.about, one.where, bands))
    found.append(_by_backbone_rank(board, groups))
    return [one for one in (*found, *_over_decay(board, facts)) if len(one.bands) > 1]


def _bands(
    groups: Mapping[str, Mapping[str, Scores]],
    values: Mapping[str, Sequence[float | None]],
    write: Callable[[float], str],
) -> list[Band]:
    """Cut the known values at quartiles, as far as those differ, and compute the differences in each band."""
    known = np.array([value for one in values.values() for value in one if value is not None])
    if not len(known):
        return []
    distinct = np.unique(known)
    edges = (
        distinct[1:] if len(distinct) <= BANDS else np.unique(np.quantile(known, [0.25, 0.5, 0.75], method="higher"))
    )
    edges = edges[edges > known.min()]
    bands = []
    for low, high in zip([-np.inf, *edges], [*edges, np.inf], strict=True):
        inside = known[(known >= low) & (known < high)]
        members = {
            name: [place for place, value in enumerate(one) if value is not None and low <= value < high]
            for name, one in values.items()
        }
        ends = [write(float(inside.min())), write(float(inside.max()))]
        bands.append(_band(" to ".join(dict.fromkeys(ends)), groups, members))
    return [band for band in bands if band is not None]


def _band(name: str, groups: Mapping[str, Mapping[str, Scores]], members: Mapping[str, Sequence[int]]) -> Band | None:
    """Return the differences over the queries at these places of each dataset; None if they are too few."""
    kept = [(place, queries) for place, queries in enumerate(members.values()) if len(queries) > 1]
    total = sum(len(queries) for _, queries in kept)
    if total < LEAST_QUERIES:
        return None
    found = {}
    for baseline, group in groups.items():
        some = {
            label: Scores(one.seeds, tuple(one.tables[place][:, queries] for place, queries in kept), one.start_group)
            for label, one in group.items()
        }
        for label, difference in differences(some, baseline).items():
            estimate = difference.estimate(new_queries=True)
            half = estimate.half_width(NORMAL_95)
            found[label] = (estimate.mean, estimate.mean - half, estimate.mean + half)
    return Band(name, total, found)


def _by_backbone_rank(board: Leaderboard, groups: Mapping[str, Mapping[str, Scores]]) -> Split:
    """Split by the rank of the first relevant document under the backbone without a head."""
    reference = next((one for one in board.experiment.references if one.record.name == "backbone"), None)
    ranks: dict[str, list[int | None]] = {}
    for name, ids in board.queries.items():
        run = reference.evaluations[name].read_run() if reference and name in reference.evaluations else {}
        qrels = board.experiment.qrels(name)
        ranks[name] = [
            next((rank for rank, (one, _) in enumerate(run.get(query, ()), 1) if qrels[query].get(one, 0) > 0), None)
            if query in qrels
            else None
            for query in ids
        ]
    limits = {"at rank 1": (1, 1), "at ranks 2 to 10": (2, 10), "at rank 11 or lower": (11, 10**9)}
    bands = []
    if any(rank is not None for one in ranks.values() for rank in one):
        for title, (low, high) in limits.items():
            inside = {
                name: [place for place, rank in enumerate(one) if rank is not None and low <= rank <= high]
                for name, one in ranks.items()
            }
            bands.append(_band(title, groups, inside))
        missed = {name: [place for place, rank in enumerate(one) if rank is None] for name, one in ranks.items()}
        bands.append(_band("not found", groups, missed))
    return Split(
        "gain-backbone-rank",
        "Gain by the backbone's own rank of the first relevant document",
        "The rank under the backbone's token states without a head. A gain at low ranks mends what the backbone got "
        "wrong; a loss at rank 1 breaks what it got right.",
        "whose first relevant document in the backbone's ranking is {}",
        [band for band in bands if band is not None],
    )


def _over_decay(board: Leaderboard, facts: Mapping[str, Mapping[str, QueryFacts]]) -> list[Split]:
    """Repeat the splits by frequency for each variant at its weight decays, compared with its smallest."""
    points: dict[tuple[str, str], dict[float, str]] = {}
    for trial in board.experiment.trials:
        decay = next((value for key, value in trial.record.axes.items() if key.endswith(DECAY)), None)
        if decay is not None and trial.label in board.scores:
            others = {key: value for key, value in trial.record.axes.items() if not key.endswith(DECAY)}
            points.setdefault((trial.record.label, str(others)), {})[float(decay)] = trial.label
    groups = {
        labels[min(labels)]: {label: board.scores[label] for label in labels.values()}
        for labels in points.values()
        if len(labels) > 1
    }
    if not groups:
        return []
    return [
        Split(
            f"gain-{one.name}-decay",
            f"{one.title}: what weight decay does",
            f"{one.about} Each row is compared with the same head at its smallest weight decay.",
            one.where,
            _bands(groups, _values(board, facts, one), one.write),
        )
        for one in PROPERTIES
        if one.name.endswith("frequency")
    ]


def _values(
    board: Leaderboard, facts: Mapping[str, Mapping[str, QueryFacts]], one: _Property
) -> dict[str, list[float | None]]:
    """Return the property of every query of each dataset; None where it is not known."""
    return {
        dataset: [one.value(facts[dataset][query]) if query in facts[dataset] else None for query in ids]
        for dataset, ids in board.queries.items()
    }
