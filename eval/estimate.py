"""What the pending evaluations of a data set take: time, and space by each way of evaluating its corpus."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from eval.embed import check_subject
from eval.encoding_work import EncodingWork
from eval.evaluator import Evaluator
from eval.planned import Planned
from eval.search_speed import search_speed, seconds_of_linear_head
from eval.sizes import Heads, Work
from eval.streaming.way import Way, choose_way
from eval.subjects import Subject
from experiment.disk.room import free_bytes
from experiment.encoding.speed import seconds_of_products
from experiment.encoding.threads import threads_on
from experiment.encoding.windows import WINDOW
from experiment.needs import describe_times
from projheads.errors import ProjheadsError

__all__ = ["Group", "describe_ways", "describe_work", "estimate_groups"]

SCORED_AGAIN = 1.5
"""Documents that are scored again for each document that is kept."""

SECONDS_PER_SUBJECT = 0.5
"""Time to open a head, to measure and to write the results."""


@dataclass(frozen=True)
class Group:
    """Subjects whose corpus is encoded once: those of one frozen backbone, or a single one.

    Attributes:
        subjects: The subjects.
        way: How their corpus is evaluated.
        encode_s: How long encoding takes.
        stored_s: How long the rest takes, stored.
        streamed_s: How long the rest takes, streamed.
    """

    subjects: tuple[Subject, ...]
    way: Way
    encode_s: float
    stored_s: float
    streamed_s: float

    @property
    def seconds(self) -> float:
        """How long it takes on this machine."""
        return self.seconds_on(1, streamed=self.way.streamed)

    def seconds_on(self, machines: int, *, streamed: bool) -> float:
        """Return how long it takes on several machines like this one; token states are stored by one of them."""
        alone = 0.0 if streamed or not self.subjects[0].frozen else self.encode_s
        rest = self.streamed_s if streamed else self.stored_s
        return alone + (self.encode_s + rest - alone) / machines


def estimate_groups(evaluator: Evaluator, pending: Sequence[Subject], planned: Sequence[Planned] = ()) -> list[Group]:
    """Divide models into groups, estimate each from a few texts, and choose how it is evaluated.

    BM25, and models that cannot be opened, which are reported when their turn comes, are left out.

    Args:
        evaluator: The data set.
        pending: Subjects that exist.
        planned: Subjects that are not trained yet.
    """
    members: dict[str, list[Subject]] = {}
    for subject in pending:
        if subject.kind != "bm25":
            try:
                members.setdefault(evaluator.encoder.encoded_as(subject), []).append(subject)
            except (ProjheadsError, OSError):
                continue
    there: dict[str, Subject] = {}
    separate: list[tuple[Planned, list[tuple[Subject, ...]]]] = []
    for one in planned:
        frozen = tuple(subject for subject in one.subjects if subject.frozen)
        if frozen and one.like is not None and (key := _key_if_intact(evaluator, one.like)):
            if key not in members:  # all trained subjects of this backbone are evaluated
                there[key] = one.like
            members.setdefault(key, []).extend(frozen)
            frozen = ()
        alone = [(subject,) for subject in one.subjects if not subject.frozen]
        separate.append((one, [part for part in (frozen, *alone) if part]))
    groups, measured = list[Group](), dict[str, EncodingWork]()
    free = free_bytes(evaluator.encoding.cache)
    for key, group in members.items():
        # Trained models of one backbone take equally long.
        alike = key if group[0].frozen else group[0].backbone
        while group and alike not in measured:
            try:
                measured[alike] = evaluator.encoder.measure(there.get(key, group[0]))
            except ProjheadsError:
                group.pop(0)
        if group:
            cached = evaluator.encoder.has_states(there.get(key, group[0]))
            groups.append(_group(evaluator, tuple(group), measured[alike], cached=cached, free=free))
    for one, parts in separate:
        if parts:
            work = evaluator.encoder.measure_model(one.open(str(evaluator.device)))
            groups += [_group(evaluator, part, work, cached=False, free=free) for part in parts]
    return groups


def _key_if_intact(evaluator: Evaluator, subject: Subject) -> str | None:
    """Return the key of a trained subject's token states; None if its model has been deleted or damaged since."""
    try:
        check_subject(subject)
        return evaluator.encoder.encoded_as(subject)
    except (ProjheadsError, OSError):
        return None


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
        f"{name} {describe_times(partial(_seconds_on, groups, streamed))}"
        for name, streamed in (("stored", False), ("streamed", True))
    ]
    return f"{flop:.1e} floating-point operations; on this machine {'; '.join(times)}"


def _seconds_on(groups: Sequence[Group], streamed: bool, machines: int) -> float:
    return sum(group.seconds_on(machines, streamed=streamed) for group in groups)


def _group(
    evaluator: Evaluator, subjects: tuple[Subject, ...], encoding: EncodingWork, *, cached: bool, free: float
) -> Group:
    task, settings, width = evaluator.task, evaluator.task.settings, encoding.backbone.width
    stand_ins = [subject for subject in subjects if settings.linearise and subject.has_stand_in]
    projected = [*subjects, *stand_ins] if subjects[0].frozen else []
    forms = len(settings.storage) + len(settings.searches)
    searches = [
        *subjects,
        *stand_ins,
        *(subject for subject in subjects if subject.kind == "model" for _ in range(forms)),
    ]
    work = Work(
        documents=len(task.documents),
        document_tokens=encoding.document_tokens,
        queries=len(task.queries),
        query_tokens=encoding.query_tokens,
        flop=encoding.flop,
        width=width,
        depth=settings.depth,
        number_bytes=4 if settings.vector_dtype == "float32" else 2,
        text_bytes=task.text_bytes,
        threads=threads_on(evaluator.device),
    )
    heads = Heads(
        [_out_features(subject, width) for subject in searches],
        sum(subject.multiply_adds for subject in projected),
        subjects[0].frozen,
    )
    way = choose_way(settings, work, heads, cached=cached, free=free)
    products, ranking = _search_seconds(work, heads, evaluator.device)
    rest = _projection_seconds(evaluator, work, projected) + products + SECONDS_PER_SUBJECT * len(subjects)
    # A pass scores a document again if it is among the best so far.
    windows = math.ceil(work.documents / WINDOW)
    times = sum(1 / number for number in range(1, windows + 1))
    return Group(subjects, way, encoding.seconds, rest + ranking, rest + ranking * times)


def _out_features(subject: Subject, width: int) -> int:
    return width if subject.kind == "backbone" else subject.out_features


def _search_seconds(work: Work, heads: Heads, device: torch.device) -> tuple[float, float]:
    """Return the seconds of all searches: those of the first pass, and of scoring the best documents again."""
    scored, ranked = 0.0, 0.0
    again = SCORED_AGAIN * min(work.depth, work.documents) / max(1, work.documents)
    for out_features in heads.out_features:
        speed = search_speed(out_features, device, torch.get_num_threads())
        products = out_features * work.query_tokens * work.document_tokens
        scored += products * speed.per_multiply_add
        ranked += products * again * speed.per_ranked
    return scored, ranked


def _projection_seconds(evaluator: Evaluator, work: Work, projected: Sequence[Subject]) -> float:
    """Return the seconds that heads take to project the token states of a frozen backbone."""
    linear, more, device = 0.0, 0, evaluator.device
    for subject in projected:
        out_features = _out_features(subject, work.width)
        about = (work.width, out_features, device, evaluator.encoding.precision, torch.get_num_threads())
        linear += seconds_of_linear_head(*about)
        more += max(0, subject.multiply_adds - work.width * out_features)
    tokens = work.query_tokens + work.document_tokens
    return linear * tokens + seconds_of_products(more * tokens, device)
