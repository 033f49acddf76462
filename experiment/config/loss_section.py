"""The section ``train.loss`` of an experiment's YAML: one loss with the options that it has."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from experiment.config.fields import Positive, Section

__all__ = ["ContrastiveConfig", "KLConfig", "Loss", "MarginMSEConfig", "Normalization"]

Normalization = Literal["none", "min-max", "z"]


class ContrastiveConfig(Section):
    """Cross-entropy of the relevant document against every other document of the batch.

    Attributes:
        name: ``contrastive``.
        temperature: Divides the MaxSim scores in front of the softmax.
    """

    name: Literal["contrastive"] = "contrastive"
    temperature: Positive = 1.0


class KLConfig(Section):
    """Kullback-Leibler divergence of the student's softmax over a query's documents from the teacher's.

    Attributes:
        name: ``kl``.
        temperature: Divides the MaxSim scores in front of the softmax.
        teacher_temperature: Divides the teacher's scores in front of theirs.
        student_normalization: What is done to a query's MaxSim scores first: ``none``, ``min-max`` (to 0..1) or ``z``
            (to mean 0 and standard deviation 1). PyLate's distillation loss has ``min-max`` by default.
        teacher_normalization: The same for the teacher's scores.
    """

    name: Literal["kl"] = "kl"
    temperature: Positive = 1.0
    teacher_temperature: Positive = 1.0
    student_normalization: Normalization = "none"
    teacher_normalization: Normalization = "none"


class MarginMSEConfig(Section):
    """Squared difference between the student's and the teacher's margins; it has no options.

    Attributes:
        name: ``margin-mse``.
    """

    name: Literal["margin-mse"] = "margin-mse"


def _complete(value: Any) -> Any:
    """A bare string is the loss's name; options without a name are those of the default loss."""
    if isinstance(value, str):
        return {"name": value}
    return {"name": "contrastive", **value} if isinstance(value, dict) else value


Loss = Annotated[
    Annotated[ContrastiveConfig | KLConfig | MarginMSEConfig, Field(discriminator="name")], BeforeValidator(_complete)
]
