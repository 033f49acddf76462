"""Names of measures, checked before any work is done."""

from collections.abc import Iterable
from typing import Any

from projheads.errors import ProjheadsError, UnknownNameError, did_you_mean

__all__ = ["check_measures", "computable", "parse_measure"]


PROBE = {"1": {"d": 1, "e": 0}}


def check_measures(names: Iterable[str], *, depth: int) -> None:
    """Check that every measure can be computed from runs of a given depth.

    Args:
        names: ir-measures expressions such as ``nDCG@10`` or ``P(rel=2)@5``.
        depth: Documents kept for each query.

    Raises:
        ProjheadsError: If a name is unknown, its parameters do not fit, no installed library computes it, or its
            cutoff is deeper than the runs.
    """
    for name in names:
        cutoff = parse_measure(name).params.get("cutoff")
        if cutoff is not None and cutoff > depth:
            raise ProjheadsError(f"measure {name} needs {cutoff} documents, but runs keep {depth}; raise eval.depth")


def parse_measure(name: str) -> Any:
    """Return the ``ir_measures.Measure`` of an expression.

    Raises:
        ProjheadsError: If the name is unknown, its parameters do not fit, or no installed library computes it.
    """
    import ir_measures

    hint = "write it like nDCG@10 or P(rel=2)@5"
    try:
        measure = ir_measures.parse_measure(name)
    except NameError:
        raise _unknown(name, ir_measures.measures.registry) from None
    except (KeyError, TypeError, ValueError):
        raise ProjheadsError(f'measure "{name}" is not an expression of ir-measures; {hint}') from None
    try:
        measure.validate_params()
    except AssertionError:
        known = ", ".join(measure.SUPPORTED_PARAMS) or "none"
        raise ProjheadsError(f'measure "{name}": its parameters do not fit; it takes {known}; {hint}') from None
    if measure.params.get("cutoff", 1) < 1:
        raise ProjheadsError(f'measure "{name}": its cutoff must be at least 1')
    try:
        ir_measures.calc_aggregate([computable(measure, 1)], PROBE, {"1": {"d": 2.0, "e": 1.0}})
    except Exception as error:
        raise ProjheadsError(f'measure "{name}": no installed library computes it') from error
    return measure


def computable(measure: Any, highest_grade: int) -> Any:
    """Return an equal measure that pytrec-eval computes unrounded, if there is one.

    nDCG with exponential gains (Burges et al., Learning to rank using gradient descent, ICML 2005) is nDCG in which a
    grade g gains 2^g - 1; the library that computes it by name needs Perl and rounds to five digits.

    Args:
        measure: The measure as it was parsed.
        highest_grade: The highest grade of the judgements.
    """
    import ir_measures

    if measure.NAME != "nDCG" or measure.params.get("dcg") != "exp-log2" or "gains" in measure.params:
        return measure
    others = {name: value for name, value in measure.params.items() if name not in ("dcg", "cutoff")}
    gains = {grade: 2**grade - 1 for grade in range(highest_grade + 1)}
    same = ir_measures.nDCG(gains=gains, **others)
    return same @ measure.params["cutoff"] if "cutoff" in measure.params else same


def _unknown(expression: str, known: Iterable[str]) -> UnknownNameError:
    names = sorted(name for name in known if name.isascii())
    stem = expression.split("@")[0].split("(")[0].strip()
    by_lower_case = {name.lower(): name for name in names}
    other_case = by_lower_case.get(stem.lower())
    meant = f'; did you mean "{other_case}"?' if other_case else did_you_mean(stem, names)
    return UnknownNameError(f'unknown measure "{expression}"; known: {", ".join(names)}{meant}')
