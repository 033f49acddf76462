"""Suites: several collections under one name, as papers report them.

``beir`` is the public part of BEIR (Thakur et al., 2021, arXiv:2104.08663), with the splits that BEIR reports: 15 data
sets. One of them, CQADupStack, is twelve collections that are searched separately and whose mean counts as one.
"""

from collections.abc import Collection, Iterable

from experiment.collections.beir_hub import ARCHIVES, CQADUPSTACK
from experiment.collections.nano_beir import NANO_BEIR
from projheads.errors import unknown_name

__all__ = ["list_suites", "suite_group", "suite_notes", "suite_sources"]

_FORUMS = tuple(f"beir:cqadupstack/{part}" for part in CQADUPSTACK)

SUITES = {
    "beir": (*(f"beir:{name}" for name in ARCHIVES), *_FORUMS),
    "cqadupstack": _FORUMS,
    "nanobeir": tuple(f"nano:{name}" for name in NANO_BEIR),
}

NOTES = {
    "beir": (
        "suite beir: 15 data sets, with the twelve forums of CQADupStack as one; split test, MS MARCO dev; without the "
        "four that are not public: BioASQ, Signal-1M, TREC-NEWS, Robust04"
    ),
    "cqadupstack": "CQADupStack: twelve forums, searched separately, whose mean counts as one data set",
    "nanobeir": "suite nanobeir: all 13 data sets of NanoBEIR",
}


def list_suites() -> list[str]:
    """List the names of the suites."""
    return sorted(SUITES)


def suite_sources(name: str) -> tuple[str, ...]:
    """Return the sources of a suite's collections.

    Raises:
        UnknownNameError: If the name is unknown.
    """
    if name not in SUITES:
        raise unknown_name("suite", name, SUITES)
    return SUITES[name]


def suite_group(source: str) -> str | None:
    """Return the data set that a suite's collection is a part of, or None if it is a separate data set."""
    return "cqadupstack" if source in _FORUMS else None


def suite_notes(sources: Iterable[str]) -> list[str]:
    """Describe each suite that some sources contain completely."""
    there = set(sources)
    complete = [name for name in SUITES if there.issuperset(SUITES[name])]
    return [NOTES[name] for name in complete if not any(_within(name, other) for other in complete)]


def _within(name: str, other: str) -> bool:
    smaller: Collection[str] = SUITES[name]
    return name != other and set(smaller) < set(SUITES[other])
