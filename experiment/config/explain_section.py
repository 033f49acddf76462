"""The section ``eval.explain`` of an experiment's YAML."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from experiment.fields import Section

__all__ = ["Explain", "ExplainConfig"]


class ExplainConfig(Section):
    """What is computed to explain why a head wins or loses, besides its scores.

    Attributes:
        files: Python files that register diagnostics of your own.
    """

    files: tuple[Path, ...] = ()


def _switch(value: Any) -> Any:
    """Read ``true`` as the section with its defaults, and ``false`` as none."""
    return ({} if value else None) if isinstance(value, bool) else value


Explain = Annotated[ExplainConfig | None, BeforeValidator(_switch)]
"""The section, or None; in YAML, ``true`` and ``false`` are short for its defaults and for None."""
