"""Whether what a backbone makes of a corpus is stored or streamed: the one place that decides."""

from dataclasses import dataclass

from eval.sizes import Heads, Work, stored_need, streamed_need
from experiment.config import EvalConfig
from experiment.disk.room import bytes_text, largest_store
from experiment.needs import Need, describe_ways
from projheads.errors import ProjheadsError

__all__ = ["Way", "check_way", "choose_way"]


@dataclass(frozen=True)
class Way:
    """How the corpus of one data set is evaluated with one backbone.

    Attributes:
        streamed: Whether it is streamed; otherwise it is stored.
        reason: Why.
        stored_need: What storing takes.
        streamed_need: What streaming takes.
    """

    streamed: bool
    reason: str
    stored_need: Need
    streamed_need: Need

    def __str__(self) -> str:
        ways = ("stored", self.stored_need), ("streamed", self.streamed_need)
        return describe_ways(ways[self.streamed], self.reason, ways[not self.streamed])


def check_way(settings: EvalConfig) -> None:
    """Check that a corpus can be searched in the configured way.

    Raises:
        ProjheadsError: If it is streamed and something needs all vectors.
    """
    needing = needs_all(settings)
    if settings.corpus == "streamed" and needing:
        raise ProjheadsError(
            f"{needing}: needs the vectors of all documents, which eval.corpus: streamed does not keep; "
            "remove it, or use corpus: stored"
        )


def needs_all(settings: EvalConfig) -> str | None:
    """Return the setting that needs the vectors of all documents at once; None if none does."""
    if settings.index not in ("auto", "exact"):
        return f'eval.index "{settings.index}"'
    return "eval.searches" if settings.searches else "eval.explain" if settings.explain else None


def choose_way(settings: EvalConfig, work: Work, heads: Heads, *, cached: bool, free: float) -> Way:
    """Decide how the corpus of a data set is evaluated with one backbone.

    Args:
        settings: The configuration.
        work: The corpus and its queries.
        heads: What is searched with the backbone.
        cached: Whether the token states are on disk already.
        free: Free bytes of the disk of the cache.
    """
    check_way(settings)
    stored, streamed = stored_need(work, heads), streamed_need(work, heads)
    limit = largest_store(free)
    if settings.corpus != "auto":
        chosen, reason = settings.corpus == "streamed", "set by eval.corpus"
    elif needing := needs_all(settings):
        chosen, reason = False, f"{needing} needs all vectors"
    elif cached:
        chosen, reason = False, "the token states are cached"
    elif stored.disk <= limit:
        chosen, reason = False, f"up to {bytes_text(limit)} may be stored, and later evaluations reuse it"
    else:
        chosen, reason = True, f"{bytes_text(free)} are free, of which at most {bytes_text(limit)} may be used"
    return Way(chosen, reason, stored, streamed)
