"""``margin-mse``: distillation of the margins between each query's first document and its others.

loss = mean_i mean_{k>0} ((s_i0 - s_ik) - (t_i0 - t_ik))^2 for the student's scores s and the teacher's t.

Source: Hofstaetter et al. (2020, arXiv:2010.02666), with any number of negatives.
"""

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from experiment.fields import Section
from experiment.losses.loss import Scope, check_teacher

__all__ = ["MarginMSE"]


class MarginMSE(Section):
    """Squared difference between the student's and the teacher's margins; it has no options.

    Attributes:
        name: ``margin-mse``.
    """

    scope: ClassVar[Scope] = "tuple"
    needs_teacher: ClassVar[bool] = True
    temperature: ClassVar[float] = 1.0

    name: Literal["margin-mse"] = "margin-mse"

    def __call__(
        self, scores: Tensor, *, n_ways: int = 1, ignore: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """See ``Loss``."""
        wanted = check_teacher(teacher, scores)
        return functional.mse_loss(scores[:, :1] - scores[:, 1:], wanted[:, :1] - wanted[:, 1:])
