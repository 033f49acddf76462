"""The registry of diagnostics, by name.

A diagnostic is a function that reads what an evaluation has computed and returns its values by name::

    @register_diagnostic(
        "mean-norm",
        title="Mean norm",
        group="geometry",
        formula="mean over tokens of |x|",
        range=(0.0, None),
        high="Embeddings are long.",
        low="Embeddings are short.",
        source="this project",
    )
    def mean_norm(given: Given) -> dict[str, float]:
        return {side: float(np.linalg.norm(tokens.rows, axis=1).mean()) for side, tokens in given.sides()}
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from eval.explain.given import Given
from eval.subjects import Subject
from experiment.disk.files import sha256_file
from experiment.disk.records import Meaning
from projheads.errors import ProjheadsError
from projheads.registry import run_python_file

__all__ = ["Diagnostic", "Measured", "import_diagnostics", "list_diagnostics", "register_diagnostic"]

_DIAGNOSTICS: dict[tuple[str, str], "Diagnostic"] = {}  # by the SHA-256 of a user's file, and name
_IMPORTED: dict[str, str] = {}  # a user's file and its SHA-256


@dataclass(frozen=True)
class Measured:
    """The result of a diagnostic that scores queries.

    Attributes:
        values: Its values by name.
        per_query: Scores by name and query id.
    """

    values: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


Result: TypeAlias = Mapping[str, float] | Measured | None
Compute = TypeVar("Compute", bound=Callable[[Given], Result])


@dataclass(frozen=True)
class Diagnostic:
    """A diagnostic.

    Attributes:
        name: Its name in files.
        meaning: What it is, for readers.
        compute: Returns its values by name; None if it does not apply to a subject.
        depends: What else a result depends on, besides the evaluation: files of the trial, for instance.
        version: Raised when a change to the code changes the values.
        file: SHA-256 of the user's file that registered it; empty for a built-in one.
        switch: The option of ``eval.explain`` that turns it on; empty for one that is always computed.
    """

    name: str
    meaning: Meaning
    compute: Callable[[Given], Result]
    depends: Callable[[Subject], Any] = lambda subject: None
    version: int = 1
    file: str = ""
    switch: str = ""


def register_diagnostic(
    name: str,
    *,
    title: str,
    group: str,
    formula: str,
    range: tuple[float | None, float | None],
    high: str,
    low: str,
    source: str,
    alarm: str = "",
    above: float | None = None,
    below: float | None = None,
    depends: Callable[[Subject], Any] = lambda subject: None,
    version: int = 1,
    switch: str = "",
) -> Callable[[Compute], Compute]:
    """Register the decorated function as a diagnostic; the arguments are those of ``Meaning`` and ``Diagnostic``.

    Raises:
        ProjheadsError: If the name is taken.
    """

    def register(compute: Compute) -> Compute:
        file = _IMPORTED.get(compute.__module__, "")
        if ("", name) in _DIAGNOSTICS or (file, name) in _DIAGNOSTICS:
            raise ProjheadsError(f'the diagnostic "{name}" is registered already; choose another name')
        meaning = Meaning(
            title=title, group=group, formula=formula, range=range, high=high, low=low, source=source,
            alarm=alarm, above=above, below=below,
        )  # fmt: skip
        _DIAGNOSTICS[file, name] = Diagnostic(name, meaning, compute, depends, version, file, switch)
        return compute

    return register


def list_diagnostics() -> list[Diagnostic]:
    """Return the diagnostics in the order of their groups and files; registered ones last."""
    diagnostics = importlib.import_module("eval.explain.diagnostics")
    for module in pkgutil.iter_modules(diagnostics.__path__, "eval.explain.diagnostics."):
        importlib.import_module(module.name)
    return list(_DIAGNOSTICS.values())


def import_diagnostics(files: Sequence[Path]) -> list[Diagnostic]:
    """Run Python files that register diagnostics, each once per process.

    Returns:
        The built-in diagnostics and those of the files.

    Raises:
        ProjheadsError: If a file cannot be read or fails, or if two of them register one name.
    """
    digests = [""]
    for path in files:
        digest = sha256_file(path) if path.is_file() else ""
        name = f"projheads_diagnostics_{digest[:16]}"
        digests.append(digest)
        if name in _IMPORTED:
            continue
        _IMPORTED[name] = digest
        try:
            run_python_file(path, name)
        except ProjheadsError as error:
            del _IMPORTED[name]
            raise ProjheadsError(f"eval.explain.files: {error}") from error
    found = [one for one in list_diagnostics() if one.file in digests]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ProjheadsError(f'eval.explain.files: two files register the diagnostic "{name}"; rename one of them')
    return found
