"""What the pending evaluations of a data set take: time, and space by each way of evaluating its corpus."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from eval.evaluator import Evaluator
from eval.sizes import Backbone, Heads, Work
from eval.streaming.way import Way, choose_way
from eval.subjects import Subject
from experiment.console.progress import human_time
from experiment.disk.room import free_bytes
from experiment.encoding.speed import seconds_of_products
from projheads.errors import ProjheadsError

__all__ = ["Group", "describe_ways", "describe_work", "estimate_groups"]

MACHINES = 8
"""For how many machines a time is stated besides one."""

SECONDS_PER_RANKING = 0.006
"""Time to rescore and order the best documents of one query, on one CPU core."""


Measured = tuple[tuple[float, float, float], Backbone]
"""Of a backbone: seconds to encode the texts, token vectors of queries and documents, and what encoding takes."""


@dataclass(frozen=True)
class Group:
    """Subjects whose corpus is encoded once: those of one frozen backbone, or a single one.

    Attributes:
        subjects: The subjects.
        way: How their corpus is evaluated.
        encode_s: How long encoding takes.
        search_s: How long the rest takes.
    """

    subjects: tuple[Subject, ...]
    way: Way
    encode_s: float
    search_s: float

    @property
    def seconds(self) -> float:
        """How long it takes on this machine."""
        return self.seconds_on(1, streamed=self.way.streamed)

    def seconds_on(self, machines: int, *, streamed: bool) -> float:
        """Return how long it takes on several machines like this one; token states are stored by one of them."""
        alone = 0.0 if streamed or not self.subjects[0].frozen else self.encode_s
        return alone + (self.encode_s + self.search_s - alone) / machines


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
                measured[alike] = evaluator.encoder.estimate(group[0]), evaluator.encoder.backbone(group[0])
            except ProjheadsError:
                group.pop(0)
        if group:
            groups.append(_group(evaluator, tuple(group), *measured[alike]))
    return groups


def describe_ways(groups: Sequence[Group]) -> list[str]:
    """Return lines about how the corpus of groups is evaluated, why, and the disk and memory that it takes."""
    return [
        f"corpus {way}" + (f", {count} times" if count > 1 else "")
        for way, count in Counter(str(group.way) for group in groups).items()
    ]


def describe_work(groups: Sequence[Group]) -> str:
    """Return a line about the operations and the time that evaluating groups takes, both ways."""
    flop = sum(group.way.stored_need.flop for group in groups)
    times = [
        f"{name} {human_time(sum(group.seconds_on(1, streamed=streamed) for group in groups))}, on {MACHINES} such "
        f"machines {human_time(sum(group.seconds_on(MACHINES, streamed=streamed) for group in groups))}"
        for name, streamed in (("stored", False), ("streamed", True))
    ]
    return f"{flop:.1e} floating-point operations; on this machine {'; '.join(times)}"


def _group(
    evaluator: Evaluator, subjects: tuple[Subject, ...], estimate: tuple[float, float, float], backbone: Backbone
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
        flop=sum(
            backbone.flop(tokens, tokens / max(1, texts))
            for tokens, texts in ((documents, len(task.documents)), (queries, len(task.queries)))
        ),
        width=backbone.width,
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
    products = (way.stored_need.flop - work.flop) / 2
    return Group(subjects, way, encode, ranking + seconds_of_products(products, evaluator.device))
