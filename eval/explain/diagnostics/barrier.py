"""barrier: nDCG@10 lost at the average of the weights of two seeds of a variant (linear mode connectivity).

Frankle et al., 2020, arXiv 1912.05671. Hidden channels are averaged as they are, without matching them.
"""

import copy

import numpy as np
import torch

from eval.explain.given import Given
from eval.explain.registry import register_diagnostic
from eval.explain.rerank import reranked_ndcg, sampled_queries, scores_of_run
from eval.runs import read_run
from eval.subjects import Subject
from experiment.disk.layout import TrialFolder
from projheads.hosts.model_folder import read_head


def first_seed(subject: Subject) -> TrialFolder | None:
    """Return the finished trial of the variant's lowest seed; None for that trial itself, and for other rows."""
    own = subject.folder.path
    seeds = sorted(own.parent.glob("seed-*"), key=lambda path: int(path.name.removeprefix("seed-")))
    finished = [path for path in seeds if TrialFolder(path).is_finished]
    return TrialFolder(finished[0]) if own in finished and finished[0] != own else None


def partner(subject: Subject) -> str | None:
    """Return the weights of the trial that a trial is averaged with, and the name of what it found."""
    other = first_seed(subject) if subject.frozen else None
    record = other.read_trial() if other is not None else None
    return record.weights_hash if record is not None else None


@register_diagnostic(
    "barrier",
    title="Barrier between seeds",
    group="gain",
    formula="mean nDCG@10 of the first seed and this one - nDCG@10 of the average of their weights, which ranks "
    "the first 15 documents of both again, for 30 sampled queries",
    range=(-1.0, 1.0),
    high="The seeds lie in different basins: their average is a bad head.",
    low="The seeds lie in one basin; below 0, their average is better than either.",
    source="Frankle et al., 2020, arXiv 1912.05671",
    depends=partner,
)
def barrier(given: Given) -> dict[str, float] | None:
    """Return it for every seed but the first, on a frozen backbone."""
    other = first_seed(given.subject)
    if given.head is None or other is None:
        return None
    run_file = other.eval_run(given.task.dataset.name)
    if not run_file.exists():
        return None
    average, theirs = copy.deepcopy(given.head), read_head(other.model).float().state_dict()
    with torch.no_grad():
        for name, tensor in average.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_((tensor + theirs[name].to(tensor)) / 2)
    queries, runs = sampled_queries(given), [given.run, read_run(run_file)]
    ends = [np.mean(list(scores_of_run(given, run, queries).values())) for run in runs]
    middle = np.mean(list(reranked_ndcg(given, average, queries, runs).values()))
    return {"halfway": float(np.mean(ends) - middle)}
