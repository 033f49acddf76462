"""Whether the measure of a sweep is too easy, or too noisy, to choose by."""

import math
from collections.abc import Sequence

from experiment.disk.records import SweepRecord

__all__ = ["saturation_warning"]

EASY = 0.95
"""From this mean on, a measure between 0 and 1 hardly distinguishes points."""

STANDARD_ERRORS = 2.0
"""A spread of the points' means within so many standard errors of a difference chooses by luck."""


def saturation_warning(sweeps: Sequence[SweepRecord]) -> str | None:
    """Return why the measure that a sweep chose by hardly distinguishes its points; None if it does.

    Args:
        sweeps: The sweep of each variant.
    """
    scored = [[score for score in point.seeds.values() if score is not None] for one in sweeps for point in one.points]
    scored = [scores for scores in scored if scores]
    if len(scored) < 2:
        return None
    pairs = sweeps[0].by_held_out_pairs
    queries = "train.validation_pairs" if pairs else "train.validation.max_queries"
    means = [sum(scores) / len(scores) for scores in scored]
    if min(means) > EASY:
        harder = "raise train.validation.max_documents or choose a harder split"
        if pairs:
            harder = f"choose by development queries (train.validation: {{split: dev}}), or raise {queries}"
        return (
            f"{sweeps[0].measure} is above {EASY} for every variant at every point of the sweep, too easy to choose "
            f"by; {harder}"
        )
    squares = sum((score - mean) ** 2 for scores, mean in zip(scored, means, strict=True) for score in scores)
    freedom = sum(len(scores) - 1 for scores in scored)
    if not freedom:
        return None
    error = math.sqrt(2 * squares / freedom * sum(1 / len(scores) for scores in scored) / len(scored))
    if max(means) - min(means) <= STANDARD_ERRORS * error:
        return (
            f"{sweeps[0].measure} differs between the points of the sweep by no more than {STANDARD_ERRORS:.0f} "
            f"standard errors of a difference ({error:.4f}), so the choice is mostly luck; raise "
            f"{queries} or sweep.seeds"
        )
    return None
