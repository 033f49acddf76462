"""The section ``eval`` of an experiment's YAML."""

import importlib.util
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from experiment.config.dataset_section import EvalDataset, EvalDatasetRef, expand_suites
from experiment.config.explain_section import Explain
from experiment.config.grid import value_error
from experiment.config.index_factory import check_factory
from experiment.config.search_forms import FAISS, check_search_form, parse_search
from experiment.config.storage_forms import check_storage, parse_storage
from experiment.fields import Count, Precision, Section
from experiment.measure_names import check_measures
from projheads.errors import ProjheadsError

__all__ = ["EvalConfig", "check_for_width"]


def _listed(datasets: Any) -> Any:
    """Read a single data set as a list of one."""
    return [datasets] if isinstance(datasets, str | dict) else datasets


class EvalConfig(Section):
    """How every trial is evaluated.

    Attributes:
        datasets: Collections to search; ``{suite: beir}``, ``{suite: nanobeir}`` and the other suites are short for all
            of theirs.
        index: ``exact`` scores every document with its vectors as they are kept (see ``vectors``), a FAISS factory
            string builds that index over the token vectors, and ``auto`` is exact unless an index takes less work.
        nprobe: Lists that an inverted-file index visits; None for a thirty-second of them, at least 8.
        candidates_per_token: Token vectors that the index returns for each query token.
        max_candidates: Documents of a query that an approximate search scores exactly, those with the best approximate
            scores; None for four times the depth.
        corpus: ``stored`` keeps what a backbone makes of the corpus on disk until all its heads are searched;
            ``streamed`` encodes and searches one chunk after the other with all heads, and keeps only the rankings;
            ``auto`` chooses by the disk space that is needed, and prints why. The rankings are the same.
        depth: Documents kept for each query.
        measures: ir-measures expressions; verdicts are about the first.
        references: Rows that are sanity checks: BM25, the backbone's token states without a head, and the baseline head
            before training.
        linearise: Whether the best linear stand-in of each trained non-linear head is evaluated too, which shows how
            much of its gain is non-linear; for frozen backbones, at the cost of a second search.
        precision: Arithmetic of the backbone and the head; ``auto`` is bf16 where the hardware multiplies it faster
            than fp32, otherwise fp32.
        batch_tokens: Tokens of a batch that is encoded at once; None for 1 024 on the CPU, where every thread has such
            a batch, and 16 384 on a GPU.
        shared_rate: Whether the sweep's trials at the experiment's own training settings are evaluated too, which
            shows what the comparison would say at one learning rate for all.
        vectors: Data type in which token embeddings are kept and searched, ``fp16`` or ``fp32``; ``auto`` is fp32 if
            ``storage`` lists ``fp16``, which is then compared with it, and fp16 otherwise.
        storage: Smaller forms in which every model's document vectors are also stored, read back and searched:
            ``fp16``, ``int8``, ``int4``, ``binary``, ``hamming``, ``pq16`` or ``rq16`` (bytes a vector); before the
            code, ``dim64`` (the first 64 numbers), ``centred`` (less the documents' mean) and ``pool2`` (token pooling
            by that factor), in this order, as in ``dim64-centred-pool2-int8``.
        searches: Further searches that every model is tried with: ``fde`` (fixed-dimensional encodings, MUVERA) with
            its options, ``plaid``, ``centred-fde`` and ``centred-plaid``, and FAISS indexes such as ``IVF256,SQfp16``.
        explain: Whether diagnostics are computed that explain why a head wins or loses: the geometry of its embeddings,
            its gradients, and where its gain sits. ``true`` is short for the section with its defaults; None for none.
    """

    datasets: Annotated[
        tuple[EvalDataset, ...], BeforeValidator(_listed), Field(min_length=1), AfterValidator(expand_suites)
    ]
    index: str = "auto"
    nprobe: Count | None = None
    candidates_per_token: Count = 1024
    max_candidates: Count | None = None
    corpus: Literal["auto", "stored", "streamed"] = "auto"
    depth: Count = 100
    measures: Annotated[tuple[str, ...], Field(min_length=1)] = ("nDCG@10", "R@100", "RR@10")
    references: tuple[Literal["bm25", "backbone", "untrained"], ...] = ("bm25", "backbone", "untrained")
    linearise: StrictBool = True
    precision: Precision = "fp32"
    batch_tokens: Count | None = None
    shared_rate: StrictBool = True
    vectors: Literal["auto", "fp16", "fp32"] = "auto"
    storage: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    explain: Explain = None

    @property
    def vector_dtype(self) -> Literal["float16", "float32"]:
        """The data type that ``vectors`` selects, as numpy names it."""
        wide = self.vectors == "fp32" or (self.vectors == "auto" and "fp16" in self.storage)
        return "float32" if wide else "float16"

    @field_validator("datasets")
    @classmethod
    def _distinct(cls, datasets: tuple[EvalDatasetRef, ...]) -> tuple[EvalDatasetRef, ...]:
        names = [dataset.name for dataset in datasets]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'two data sets are called "{name}"; give one of them a different `name`')
        for group in {dataset.group for dataset in datasets} & set(names):
            raise ValueError(f'a data set and a group are called "{group}"; give the data set a different `name`')
        return datasets

    @field_validator("depth")
    @classmethod
    def _reachable(cls, depth: int, info: ValidationInfo) -> int:
        cap = info.data.get("max_candidates")
        if cap is not None and cap < depth:
            raise ValueError(f"{depth} documents cannot be kept with max_candidates={cap}; raise max_candidates")
        return depth

    @field_validator("storage")
    @classmethod
    def _stored(cls, storage: tuple[str, ...]) -> tuple[str, ...]:
        for name in storage:
            parse_storage(name)
            if storage.count(name) > 1:
                raise ValueError(f'the storage form "{name}" is listed twice; remove one')
        return storage

    @field_validator("searches")
    @classmethod
    def _searched(cls, searches: tuple[str, ...]) -> tuple[str, ...]:
        for name in searches:
            parse_search(name)
            if searches.count(name) > 1:
                raise ValueError(f'the search "{name}" is listed twice; remove one')
        return searches

    @field_validator("measures")
    @classmethod
    def _known(cls, measures: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "depth" in info.data:
            check_measures(measures, depth=info.data["depth"])
        return measures


def check_for_width(settings: EvalConfig, width: int) -> None:
    """Check that token vectors of a width can be stored and indexed as configured, as far as that is known here.

    Raises:
        ValidationError: With the place of every mistake.
    """
    mistakes = []
    for place, name in enumerate(settings.storage):
        try:
            check_storage(parse_storage(name), width)
        except ProjheadsError as error:
            mistakes.append(value_error(("storage", place), name, str(error)))
    installed = importlib.util.find_spec("faiss") is not None
    for place, name in enumerate(settings.searches):
        if (form := parse_search(name)).kind == FAISS and installed:
            try:
                check_search_form(form, width)
            except ProjheadsError as error:
                mistakes.append(value_error(("searches", place), name, str(error)))
    if settings.index not in ("auto", "exact") and installed:
        try:
            check_factory(settings.index, width, settings.nprobe)
        except ProjheadsError as error:
            mistakes.append(value_error(("index",), settings.index, str(error)))
    if mistakes:
        raise ValidationError.from_exception_data("eval", mistakes)
