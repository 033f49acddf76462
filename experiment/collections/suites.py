"""Suites: several collections under one name, as papers report them.

``beir`` is the public part of BEIR (Thakur et al., 2021, arXiv:2104.08663), with the splits that BEIR reports: 15 data
sets. One of them, CQADupStack, is twelve collections that are searched separately and whose mean counts as one.
"""

from collections.abc import Collection, Iterable

from experiment.collections.beir_hub import ARCHIVES, CQADUPSTACK
from experiment.collections.mteb_tasks import MTEB_TASKS
from experiment.collections.nano_beir import NANO_BEIR
from projheads.errors import unknown_name

__all__ = ["list_suites", "suite_group", "suite_notes", "suite_sources"]

_FORUMS = tuple(f"beir:cqadupstack/{part}" for part in CQADUPSTACK)

_MTEB_ENG = (
    "ArguAna",
    "CQADupstackGamingRetrieval",
    "CQADupstackUnixRetrieval",
    "ClimateFEVERHardNegatives",
    "FEVERHardNegatives",
    "FiQA2018",
    "HotpotQAHardNegatives",
    "SCIDOCS",
    "TRECCOVID",
    "Touche2020Retrieval.v3",
)


def _tasks(*prefixes: str) -> tuple[str, ...]:
    """Return the sources of mteb's tasks whose names begin in one of these ways."""
    return tuple(f"mteb:{name}" for name in MTEB_TASKS if name.startswith(prefixes))


SUITES = {
    "beir": (*(f"beir:{name}" for name in ARCHIVES), *_FORUMS),
    "bright": _tasks("Bright"),
    "cqadupstack": _FORUMS,
    "limit": _tasks("LIMIT"),
    "longembed": _tasks("LEMB"),
    "lotte": _tasks("LoTTE/"),
    "mteb-eng": tuple(f"mteb:{name}" for name in _MTEB_ENG),
    "nanobeir": tuple(f"nano:{name}" for name in NANO_BEIR),
}

NOTES = {
    "beir": (
        "suite beir: 15 data sets, with the twelve forums of CQADupStack as one; split test, MS MARCO dev; without the "
        "four that are not public: BioASQ, Signal-1M, TREC-NEWS, Robust04"
    ),
    "bright": (
        "suite bright: the twelve domains of BRIGHT (Su et al., 2024) with short documents; what it excludes per query "
        "in its coding and theorem domains is not excluded here, so published numbers there are higher"
    ),
    "limit": "suite limit: LIMIT and LIMIT-small (Weller et al., 2025), published with R@2",
    "longembed": (
        "suite longembed: the six tasks of LongEmbed (Zhu et al., 2024); needle and passkey are the mean of eight "
        "lengths and published with nDCG@1; raise the model's document_length"
    ),
    "lotte": "suite lotte: the ten test collections of LoTTE (Santhanam et al., 2022), published with Success@5",
    "mteb-eng": "suite mteb-eng: the ten retrieval tasks of MTEB(eng, v2)",
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
    if source in _FORUMS:
        return "cqadupstack"
    return source.removeprefix("mteb:").partition("/")[0] if source.startswith("mteb:LEMB") and "/" in source else None


def suite_notes(sources: Iterable[str]) -> list[str]:
    """Describe each suite that some sources contain completely."""
    there = set(sources)
    complete = [name for name in SUITES if there.issuperset(SUITES[name])]
    return [NOTES[name] for name in complete if not any(_within(name, other) for other in complete)]


def _within(name: str, other: str) -> bool:
    smaller: Collection[str] = SUITES[name]
    return name != other and set(smaller) < set(SUITES[other])
