"""Training losses on MaxSim scores.

A batch holds B queries with n_ways documents each. A loss says which scores it works on: ``batch`` is every query with
every document of the batch, (B, B * n_ways), where document k of query i is column i * n_ways + k; ``tuple`` is each
query with its own documents, (B, n_ways). All losses are means over the queries.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from experiment.config.loss_section import ContrastiveConfig, KLConfig, MarginMSEConfig, Normalization

__all__ = ["Contrastive", "Distillation", "Loss", "MarginMSE", "contrastive_loss", "make_loss", "pair_accuracy"]

EPSILON = 1e-8
"""Added to the spread that scores are divided by, so that equal scores stay finite."""


class Loss(Protocol):
    """A training loss.

    Attributes:
        scope: The scores that it works on, ``batch`` or ``tuple``.
        needs_teacher: Whether it needs the teacher's scores.
        temperature: What it divides the scores by in front of a softmax; 1 where it has none.
    """

    scope: ClassVar[Literal["batch", "tuple"]]
    needs_teacher: ClassVar[bool]

    @property
    def temperature(self) -> float:
        """See the class."""
        ...

    def __call__(
        self, scores: Tensor, *, n_ways: int = 1, ignore: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            scores: MaxSim scores, (B, D) with D >= B * n_ways or (B, n_ways) as ``scope`` says.
            n_ways: Documents of a query; for losses of scope ``batch``.
            ignore: (B, D) bool, True where a document of the batch is relevant for the query too and no
                negative; for losses of scope ``batch``.
            teacher: (B, n_ways) scores of the teacher; for losses that need them.

        Returns:
            The loss, a scalar.
        """
        ...


def make_loss(config: ContrastiveConfig | KLConfig | MarginMSEConfig) -> Loss:
    """Make the loss that ``train.loss`` asks for."""
    if isinstance(config, ContrastiveConfig):
        return Contrastive(config.temperature)
    if isinstance(config, KLConfig):
        return Distillation(**config.model_dump(exclude={"name"}))
    return MarginMSE()


@dataclass(frozen=True)
class Contrastive:
    """Contrastive loss with in-batch and hard negatives; see ``contrastive_loss``."""

    temperature: float = 1.0
    scope: ClassVar[Literal["batch", "tuple"]] = "batch"
    needs_teacher: ClassVar[bool] = False

    def __call__(
        self, scores: Tensor, *, n_ways: int = 1, ignore: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """See ``Loss``; a query's first document is the relevant one."""
        return contrastive_loss(scores, self.temperature, ignore, n_ways=n_ways)


@dataclass(frozen=True)
class Distillation:
    """Distillation of the teacher's distribution over each query's documents.

    loss = T^2 mean_i sum_k p_ik (log p_ik - log q_ik), with p_i = softmax(N_t(teacher_i) / T_t) and
    q_i = softmax(N_s(score_i) / T). N, over the query's documents, is nothing, min-max (s - min) / (max - min), or z
    (s - mean) / standard deviation.

    Source: Hinton et al. (2015, arXiv:1503.02531), the factor T^2 included; over the documents of a query as in
    ColBERTv2 (Santhanam et al., 2022, arXiv:2112.01488).

    Attributes:
        temperature: T of the student.
        teacher_temperature: T_t of the teacher.
        student_normalization: N_s.
        teacher_normalization: N_t.
    """

    temperature: float = 1.0
    teacher_temperature: float = 1.0
    student_normalization: Normalization = "none"
    teacher_normalization: Normalization = "none"
    scope: ClassVar[Literal["batch", "tuple"]] = "tuple"
    needs_teacher: ClassVar[bool] = True

    def __call__(
        self, scores: Tensor, *, n_ways: int = 1, ignore: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """See ``Loss``."""
        wanted = _normalize(_given(teacher, scores), self.teacher_normalization) / self.teacher_temperature
        logits = _normalize(scores, self.student_normalization) / self.temperature
        divergence = functional.kl_div(
            logits.log_softmax(dim=-1), wanted.log_softmax(dim=-1), reduction="batchmean", log_target=True
        )
        return divergence * self.temperature**2


@dataclass(frozen=True)
class MarginMSE:
    """Distillation of the margins between each query's first document and its others.

    loss = mean_i mean_{k>0} ((s_i0 - s_ik) - (t_i0 - t_ik))^2 for the student's scores s and the teacher's t.

    Source: Hofstaetter et al. (2020, arXiv:2010.02666), with any number of negatives.
    """

    scope: ClassVar[Literal["batch", "tuple"]] = "tuple"
    needs_teacher: ClassVar[bool] = True

    @property
    def temperature(self) -> float:
        """The loss has none."""
        return 1.0

    def __call__(
        self, scores: Tensor, *, n_ways: int = 1, ignore: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """See ``Loss``."""
        wanted = _given(teacher, scores)
        return functional.mse_loss(scores[:, :1] - scores[:, 1:], wanted[:, :1] - wanted[:, 1:])


def contrastive_loss(
    scores: Tensor, temperature: float = 1.0, ignore: Tensor | None = None, *, n_ways: int = 1
) -> Tensor:
    """Cross-entropy of the relevant document against the other documents of the batch.

    loss = -mean_i log( exp(s_i,in / t) / sum_j exp(s_ij / t) ), where j runs over the documents that are not ignored.
    Of the n = n_ways documents of query i, columns i n to i n + n - 1, the first is relevant and the others are hard
    negatives.
    Source: InfoNCE, van den Oord et al. (2018), with in-batch and hard negatives as in Karpukhin et al. (2020).

    Args:
        scores: (B, D) MaxSim of each query with each document, D >= B * n_ways.
        temperature: Divides the scores.
        ignore: (B, D) bool, True where a document is not used as a negative because it is relevant too.
        n_ways: Documents of a query.

    Returns:
        The loss, a scalar.
    """
    logits = scores / temperature
    if ignore is not None:
        logits = logits.masked_fill(ignore, float("-inf"))
    targets = torch.arange(len(scores), device=scores.device) * n_ways
    return functional.cross_entropy(logits, targets)


def pair_accuracy(scores: Tensor, ignore: Tensor | None = None) -> float:
    """Return the share of queries whose relevant document scores above every document that is not ignored.

    Args:
        scores: (B, B) as in ``contrastive_loss``.
        ignore: (B, B) bool as in ``contrastive_loss``.
    """
    relevant = scores.diagonal().unsqueeze(1)
    others = torch.ones_like(scores, dtype=torch.bool).fill_diagonal_(False)
    if ignore is not None:
        others &= ~ignore
    beaten = ((scores >= relevant) & others).any(dim=1)
    return float((~beaten).float().mean())


def _given(teacher: Tensor | None, scores: Tensor) -> Tensor:
    if teacher is None or teacher.shape != scores.shape:
        raise ValueError(f"the loss needs teacher scores {tuple(scores.shape)}")
    return teacher.to(scores.dtype)


def _normalize(scores: Tensor, how: Normalization) -> Tensor:
    """Normalise the scores (B, n) of each query's documents."""
    if how == "min-max":
        lowest, highest = scores.amin(dim=-1, keepdim=True), scores.amax(dim=-1, keepdim=True)
        return (scores - lowest) / (highest - lowest + EPSILON)
    if how == "z":
        centred = scores - scores.mean(dim=-1, keepdim=True)
        return centred / (scores.std(dim=-1, correction=0, keepdim=True) + EPSILON)
    return scores
