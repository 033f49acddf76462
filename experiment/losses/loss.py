"""What every loss on MaxSim scores offers.

A batch holds B queries with n_ways documents each. A loss declares which scores it takes: ``batch`` is every query with
every document of the batch, (B, B * n_ways), where document k of query i is column i * n_ways + k; ``tuple`` is each
query with its own documents, (B, n_ways). All losses are means over the queries.
"""

from typing import ClassVar, Literal, Protocol

from torch import Tensor

__all__ = ["Loss", "Scope", "check_teacher"]

Scope = Literal["batch", "tuple"]


class Loss(Protocol):
    """A training loss: a section of the YAML, with its options as fields, that is called with scores.

    Attributes:
        scope: The scores that it takes, ``batch`` or ``tuple``.
        needs_teacher: Whether it needs the teacher's scores.
        name: Its name in YAML.
        temperature: What it divides the scores by before a softmax; 1 if it has none.
    """

    scope: ClassVar[Scope]
    needs_teacher: ClassVar[bool]

    @property
    def name(self) -> str:
        """See the class."""
        ...

    @property
    def temperature(self) -> float:
        """See the class."""
        ...

    def __call__(
        self, scores: Tensor, *, n_ways: int = 1, ignore: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            scores: MaxSim scores, (B, D) with D >= B * n_ways or (B, n_ways), depending on ``scope``.
            n_ways: Documents of a query; for losses of scope ``batch``.
            ignore: (B, D) bool, True where a document of the batch is relevant for the query too and therefore not a
                negative; for losses of scope ``batch``.
            teacher: (B, n_ways) scores of the teacher; for losses that need them.

        Returns:
            The loss, a scalar.
        """
        ...


def check_teacher(teacher: Tensor | None, scores: Tensor) -> Tensor:
    """Return the teacher's scores in the dtype of the student's.

    Raises:
        ValueError: If they are missing or of a different shape.
    """
    if teacher is None or teacher.shape != scores.shape:
        raise ValueError(f"the loss needs teacher scores {tuple(scores.shape)}")
    return teacher.to(scores.dtype)
