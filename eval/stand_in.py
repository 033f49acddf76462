"""The linear stand-in of a head: the linear map closest to it, fitted on token states and evaluated in its place."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from eval.embed import SubjectEncoder
from eval.measures import aggregate
from eval.search_task import SearchTask
from eval.subjects import Subject
from experiment.console.progress import Progress
from experiment.disk.records import StandIn, StandInStates
from experiment.encoding.store import TokenStore
from projheads import Linearised, linearise
from projheads.hosts.model_folder import read_head

__all__ = ["describe_stand_in", "fit_stand_in", "linear_stand_in", "stand_in_states"]

MOST_STATES = 2**15
"""States of each side; more would change the fit by less than its own error."""

LEAST_PER_FEATURE = 10
"""With fewer states than this per feature, judged documents are included too."""


def linear_stand_in(subject: Subject, task: SearchTask, encoder: SubjectEncoder, progress: Progress) -> StandIn:
    """Fit the linear stand-in of a subject's head, search with it, and describe the fit and its scores."""
    states, fitted_on = stand_in_states(*encoder.token_states(subject), task.document_ids, task.judged)
    fit = fit_stand_in(subject, states)
    with encoder.projected(subject, fit.linear) as embeddings:
        answer = task.search(f"the linear stand-in of {subject.name}", *embeddings, progress)
    return describe_stand_in(fit, fitted_on, task.measure(answer)[1])


def fit_stand_in(subject: Subject, states: Tensor) -> Linearised:
    """Fit the linear stand-in of a subject's head on token states (n, width)."""
    return linearise(read_head(subject.model).float(), states)


def describe_stand_in(fit: Linearised, fitted_on: str, measures: dict[str, dict[str, float]]) -> StandIn:
    """Describe a stand-in, what it was fitted on, and its scores by measure and query id."""
    return StandIn(
        r2=fit.r2,
        mean_cosine=fit.mean_cosine,
        fitted_on=fitted_on,
        states=StandInStates(fitted=fit.fitted, held_out=fit.held_out),
        measures=measures,
        means={name: aggregate(name, values) for name, values in measures.items()},
    )


def stand_in_states(
    queries: TokenStore, documents: TokenStore, document_ids: Sequence[str], judged: Collection[str]
) -> tuple[Tensor, str]:
    """Choose texts evenly over queries and corpus and return their token states.

    Judged documents are left out, so that the stand-in is not fitted on what is searched for, unless too few others
    remain, as in small corpora. Queries are needed: their mask tokens resemble nothing in a document, and a stand-in of
    a gated head that was fitted only on documents explained nothing of its query embeddings. The stand-in imitates the
    head; no judgement enters.

    Args:
        queries: Token states of the queries.
        documents: Token states of the documents.
        document_ids: Their ids.
        judged: Ids of the documents with a judgement.

    Returns:
        The states (n, width) in float32, texts of both sides evenly mixed, and the name of what they were taken from.
    """
    unjudged = [place for place, name in enumerate(document_ids) if name not in judged]
    enough = documents.lengths[unjudged].sum() >= LEAST_PER_FEATURE * documents.width
    sides = [(queries, list(range(len(queries)))), (documents, unjudged if enough else list(range(len(documents))))]
    placed = []
    for store, texts in sides:
        stride = max(1, int(np.ceil(store.lengths[texts].sum() / MOST_STATES)))
        chosen = texts[::stride]
        placed += [((number + 0.5) / len(chosen), store[text]) for number, text in enumerate(chosen)]
    rows = [row for _, row in sorted(placed, key=lambda pair: pair[0])]
    states = np.concatenate(rows) if rows else np.zeros((0, documents.width))
    name = "queries and unjudged documents" if enough else "queries and documents"
    return torch.from_numpy(states.astype(np.float32)), name
