"""``kl``: distillation of the teacher's distribution over each query's documents.

loss = T^2 mean_i sum_k p_ik (log p_ik - log q_ik), with p_i = softmax(N_t(teacher_i) / T_t) and
q_i = softmax(N_s(score_i) / T). N, over the query's documents, is nothing, min-max (s - min) / (max - min), or z
(s - mean) / standard deviation.

Source: Hinton et al. (2015, arXiv:1503.02531), including the factor T^2; over the documents of a query as in ColBERTv2
(Santhanam et al., 2022, arXiv:2112.01488).
"""

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from experiment.fields import Positive, Section
from experiment.losses.loss import Scope, check_teacher

__all__ = ["KL"]

Normalization = Literal["none", "min-max", "z"]

EPSILON = 1e-8
"""Added to the spread that scores are divided by, so that equal scores stay finite."""


class KL(Section):
    """Kullback-Leibler divergence of the student's softmax over a query's documents from the teacher's.

    Attributes:
        name: ``kl``.
        temperature: Divides the MaxSim scores before the softmax.
        teacher_temperature: Divides the teacher's scores before the softmax.
        student_normalization: What is done to a query's MaxSim scores first: ``none``, ``min-max`` (to 0..1) or ``z``
            (to mean 0 and standard deviation 1). PyLate's distillation loss uses ``min-max`` by default.
        teacher_normalization: The same for the teacher's scores.
    """

    scope: ClassVar[Scope] = "tuple"
    needs_teacher: ClassVar[bool] = True

    name: Literal["kl"] = "kl"
    temperature: Positive = 1.0
    teacher_temperature: Positive = 1.0
    student_normalization: Normalization = "none"
    teacher_normalization: Normalization = "none"

    def __call__(
        self, scores: Tensor, *, n_ways: int = 1, ignore: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """See ``Loss``."""
        wanted = _normalize(check_teacher(teacher, scores), self.teacher_normalization) / self.teacher_temperature
        logits = _normalize(scores, self.student_normalization) / self.temperature
        divergence = functional.kl_div(
            logits.log_softmax(dim=-1), wanted.log_softmax(dim=-1), reduction="batchmean", log_target=True
        )
        return divergence * self.temperature**2


def _normalize(scores: Tensor, how: Normalization) -> Tensor:
    """Normalise the scores (B, n) of each query's documents."""
    if how == "min-max":
        lowest, highest = scores.amin(dim=-1, keepdim=True), scores.amax(dim=-1, keepdim=True)
        return (scores - lowest) / (highest - lowest + EPSILON)
    if how == "z":
        centred = scores - scores.mean(dim=-1, keepdim=True)
        return centred / (scores.std(dim=-1, correction=0, keepdim=True) + EPSILON)
    return scores
