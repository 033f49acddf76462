"""What the pending evaluations of a data set take: time, and space by each way of evaluating its corpus."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from eval.evaluator import Evaluator
from eval.streaming.sizes import Heads, Work
from eval.streaming.way import Way, choose_way, free_bytes
from eval.subjects import Subject
from experiment.encoding.speed import seconds_of_products
from projheads.errors import ProjheadsError

__all__ = ["Group", "estimate_groups"]

SECONDS_PER_RANKING = 0.006
"""Time to rescore and order the best documents of one query, on one CPU core."""


Measured = tuple[tuple[float, float, float], int]
"""Of a backbone: seconds to encode the texts, token vectors of queries and documents, and the width of a state."""


@dataclass(frozen=True)
class Group:
    """Subjects whose corpus is encoded once: those of one frozen backbone, or a single one.

    Attributes:
        subjects: The subjects.
        way: How their corpus is evaluated.
        seconds: How long that takes.
    """

    subjects: tuple[Subject, ...]
    way: Way
    seconds: float


def estimate_groups(evaluator: Evaluator, pending: Sequence[Subject]) -> list[Group]:
    """Divide the pending models into groups, estimate each from a few texts, and choose how it is evaluated.

    BM25, and models that cannot be opened, which are reported when their turn comes, are left out.
    """
    members: dict[str, list[Subject]] = {}
    for subject in pending:
        if subject.kind != "bm25":
            try:
                members.setdefault(evaluator.encoder.encoded_as(subject), []).append(subject)
            except (ProjheadsError, OSError):
                continue
    groups, measured = [], dict[str, Measured]()
    for key, group in members.items():
        # Trained models of one backbone take equally long.
        alike = key if group[0].frozen else group[0].backbone
        while group and alike not in measured:
            try:
                measured[alike] = evaluator.encoder.estimate(group[0]), evaluator.encoder.width(group[0])
            except ProjheadsError:
                group.pop(0)
        if group:
            groups.append(_group(evaluator, tuple(group), *measured[alike]))
    return groups


def _group(
    evaluator: Evaluator, subjects: tuple[Subject, ...], estimate: tuple[float, float, float], width: int
) -> Group:
    encode, queries, documents = estimate
    task, settings = evaluator.task, evaluator.task.settings
    stand_ins = [subject for subject in subjects if settings.linearise and subject.has_stand_in]
    forms, frozen = 1 + len(settings.storage) + len(settings.searches), subjects[0].frozen
    searches = [subject for subject in subjects for _ in range(forms + (subject in stand_ins))]
    work = Work(
        documents=len(task.documents),
        document_tokens=documents,
        queries=len(task.queries),
        query_tokens=queries,
        flop=0.0,
        width=width,
        depth=settings.depth,
        number_bytes=4 if settings.vector_dtype == "float32" else 2,
    )
    heads = Heads(
        [subject.out_features for subject in searches], sum(subject.multiply_adds for subject in subjects), frozen
    )
    way = choose_way(
        settings,
        work,
        heads,
        cached=evaluator.encoder.has_states(subjects[0]),
        free=free_bytes(evaluator.encoding.cache),
    )
    ranking = SECONDS_PER_RANKING * len(searches) * len(task.queries) / torch.get_num_threads()
    products = way.stored_need.flop / 2
    return Group(subjects, way, encode + ranking + seconds_of_products(products, evaluator.device))
