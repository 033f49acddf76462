"""The section ``eval`` of an experiment's YAML."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, ValidationInfo, field_validator

from experiment.config.dataset import EvalDataset, EvalDatasetRef, expand_suites
from experiment.config.fields import Count, Precision, Section
from experiment.measures import check_measures

__all__ = ["EvalConfig"]


class EvalConfig(Section):
    """How every trial is evaluated.

    Attributes:
        datasets: Collections to search; ``{suite: beir}`` and ``{suite: nanobeir}`` stand for all of theirs.
        index: ``exact`` scores every document, a FAISS factory string builds that index over the token vectors,
            ``auto`` chooses by the size of the corpus.
        nprobe: Lists that an inverted-file index visits; None for a sixteenth of them, at least 8.
        candidates_per_token: Token vectors that the index returns for each query token.
        depth: Documents kept for each query.
        measures: ir-measures expressions; the first is the one that verdicts are about.
        references: Rows that tell whether the numbers are sane: BM25, the backbone's token states without a head, and
            the baseline head before training.
        linearise: Whether the best linear stand-in of each trained head that is not linear is evaluated too: it tells
            how much of its gain was non-linear; for frozen backbones, at the price of a second search.
        precision: Arithmetic of the backbone and the head; ``auto`` as in training.
        batch_tokens: Tokens that the backbone encodes at once.
    """

    datasets: Annotated[tuple[EvalDataset, ...], Field(min_length=1), AfterValidator(expand_suites)]
    index: str = "auto"
    nprobe: Count | None = None
    candidates_per_token: Count = 256
    depth: Count = 100
    measures: Annotated[tuple[str, ...], Field(min_length=1)] = ("nDCG@10", "R@100", "RR@10")
    references: tuple[Literal["bm25", "backbone", "untrained"], ...] = ("bm25", "backbone", "untrained")
    linearise: StrictBool = True
    precision: Precision = "fp32"
    batch_tokens: Count = 8192

    @field_validator("datasets")
    @classmethod
    def _distinct(cls, datasets: tuple[EvalDatasetRef, ...]) -> tuple[EvalDatasetRef, ...]:
        names = [dataset.name for dataset in datasets]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'two data sets are called "{name}"; give one of them another `name`')
        for group in {dataset.group for dataset in datasets} & set(names):
            raise ValueError(f'a data set and a group are called "{group}"; give the data set another `name`')
        return datasets

    @field_validator("measures")
    @classmethod
    def _known(cls, measures: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "depth" in info.data:
            check_measures(measures, depth=info.data["depth"])
        return measures
