"""Further searches with which every model is tried: fixed-dimensional encodings, PLAID, and indexes of FAISS.

``fde`` is a fixed-dimensional encoding with the settings that MUVERA's authors use for 10 240 dimensions,
``fde(k_sim=4, projection=8)`` one with others, ``plaid`` is PyLate's index, and any FAISS factory string, such as
``IVF256,SQfp16``, is an index over the token vectors. ``centred-fde`` and ``centred-plaid`` centre all vectors first,
as ``centred`` in ``eval.storage`` does. A new search is a new entry of ``SEARCHES``, and its function in
``eval.search.fast``.
"""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from experiment.config.index_factory import check_factory
from projheads.errors import ProjheadsError, did_you_mean, unknown_name

__all__ = ["FAISS", "RESCORED", "SEARCHES", "SearchForm", "SearchKind", "check_search_form", "parse_search"]

FAISS = "faiss"
"""The kind of a search that is a FAISS factory string."""

RESCORED = " rescored"
"""What follows the name of a search whose candidates are scored exactly."""


MOST = 2**20
"""Most numbers of a fixed-dimensional encoding."""


@dataclass(frozen=True)
class SearchKind:
    """A kind of search.

    Attributes:
        name: Its name.
        about: What it is, for the documentation.
        options: Its options, with their defaults; all are integers.
        most: The largest value of each option.
        module: The module that it needs; empty for none.
        install: The package that brings the module.
    """

    name: str
    about: str
    options: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
    module: str = ""
    install: str = ""


_FDE = (
    "fixed-dimensional encodings (MUVERA, Dhulipala et al., 2405.19504): one vector a text, whose inner products "
    "approximate MaxSim. `k_sim`: random hyperplanes, whose signs divide the space into 2^k_sim parts; `reps`: "
    "independent repetitions; `projection`: numbers that a part's vector is projected to; `final`: numbers that the "
    "encoding is reduced to by a count sketch, 0 for none. It has reps · 2^k_sim · projection numbers without `final`."
)
_PLAID = "the PLAID index of PyLate (Santhanam et al., 2022; fast-plaid), with PyLate's settings"

SEARCHES = {
    "fde": SearchKind(
        "fde",
        _FDE,
        {"k_sim": 5, "reps": 20, "projection": 16, "final": 0},
        {"k_sim": 8, "reps": 256, "projection": 1024, "final": MOST},
    ),
    "plaid": SearchKind("plaid", _PLAID, module="fast_plaid", install="pylate"),
}
"""The searches by name, besides the indexes of FAISS."""


@dataclass(frozen=True)
class SearchForm:
    """One further search.

    Attributes:
        name: The search as the configuration writes it.
        kind: The name of an entry of ``SEARCHES``, or ``FAISS``.
        centred: Whether all vectors are centred first.
        options: The value of each option of the kind.
    """

    name: str
    kind: str
    centred: bool = False
    options: Mapping[str, int] = field(default_factory=dict)

    @property
    def entries(self) -> tuple[str, ...]:
        """The names of its results: its own scores, and exact scores of its candidates; an index of FAISS has one."""
        return (self.name,) if self.kind == FAISS else (self.name, self.name + RESCORED)


def parse_search(name: str) -> SearchForm:
    """Read the name of a search.

    Raises:
        ProjheadsError: If it is not the name of a search, or one of its options is unknown or out of range.
    """
    if re.match(r"[A-Z]", name):
        return SearchForm(name, FAISS)
    match = re.fullmatch(r"(centred-)?([a-z]+)(?:\(([a-z0-9_=, ]*)\))?", name)
    if match is None or match[2] not in SEARCHES:
        known = [prefix + kind for prefix in ("", "centred-") for kind in SEARCHES]
        raise ProjheadsError(
            f'unknown search "{name}"; write {", ".join(known)}, or a FAISS index such as IVF256,Flat'
            f"{did_you_mean(name, known)}"
        )
    kind = SEARCHES[match[2]]
    options = dict(kind.options)
    for text in filter(None, (match[3] or "").split(",")):
        option, _, value = text.strip().partition("=")
        if option not in options:
            raise ProjheadsError(f'the search "{name}": {unknown_name("option", option, list(options))}')
        least = min(1, options[option])
        if not re.fullmatch(r"\d{1,9}", value) or not least <= int(value) <= kind.most[option]:
            raise ProjheadsError(
                f'the search "{name}": {option} must be an integer from {least} to {kind.most[option]}, as in '
                f"{kind.name}({option}={kind.options[option]})"
            )
        options[option] = int(value)
    if kind.name == "fde" and (numbers := options["reps"] * 2 ** options["k_sim"] * options["projection"]) > MOST:
        raise ProjheadsError(f'the search "{name}": an encoding has {numbers} numbers; at most {MOST} are possible')
    return SearchForm(name, kind.name, bool(match[1]), options)


def check_search_form(form: SearchForm, out_features: int) -> None:
    """Check that a search can be made of vectors of ``out_features`` numbers, before anything is encoded.

    Raises:
        ProjheadsError: If a package that it needs is not installed, or FAISS cannot build the index.
    """
    if form.kind == FAISS:
        check_factory(form.name, out_features, None, key="eval.searches")
        return
    kind = SEARCHES[form.kind]
    if kind.module and importlib.util.find_spec(kind.module) is None:
        raise ProjheadsError(
            f'eval.searches "{form.name}": {kind.module} is not installed; install {kind.install}, or remove it'
        )
