"""How long the pending evaluations of a data set will take."""

from collections.abc import Sequence

import torch

from eval.evaluator import Evaluator
from eval.subjects import Subject
from experiment.encoding.speed import seconds_of_products
from projheads.errors import ProjheadsError

__all__ = ["estimate_seconds"]

SECONDS_PER_RANKING = 0.006
"""Time to rescore and order the best documents of one query, on one CPU core."""


def estimate_seconds(evaluator: Evaluator, pending: Sequence[Subject]) -> float:
    """Estimate how long the pending evaluations take, in seconds; BM25 counts as nothing."""
    models = [subject for subject in pending if subject.kind != "bm25"]
    if not models:
        return 0.0
    settings = evaluator.task.settings
    stand_ins = [subject for subject in models if settings.linearise and subject.has_stand_in]
    forms = 1 + len(settings.storage) + len(settings.searches)
    seconds, products = 0.0, 0.0
    for backbone in dict.fromkeys(subject.backbone for subject in models):
        members = [subject for subject in models if subject.backbone == backbone]
        try:
            encode, queries, documents = evaluator.encoder.estimate(members[0])
        except ProjheadsError:  # A model that cannot be opened is reported when its turn comes.
            continue
        seconds += encode * (1 if members[0].frozen else len(members))
        for subject in members:
            searches = forms + (subject in stand_ins)
            products += searches * queries * documents * subject.out_features
            products += (queries + documents) * subject.multiply_adds
    rankings = (forms * len(models) + len(stand_ins)) * len(evaluator.task.queries)
    ranking = SECONDS_PER_RANKING * rankings / torch.get_num_threads()
    return seconds + ranking + seconds_of_products(products, evaluator.device)
