"""How far the verdicts can be trusted, and what would make them firmer."""

import json
import shlex

from eval.report import format as fmt
from eval.report.effect_text import warnings
from eval.report.judged import asks_about_new_queries, most_seeds
from eval.report.table import Leaderboard, Row
from eval.report.words import word_text
from eval.verdicts import Scope, Verdict, Winner, smallest_equivalence
from experiment.disk.layout import ExperimentFolder

__all__ = ["certainty_notes", "confirmation", "luck", "would_take"]

SHOWN = 5
"""At most so many undecided variants are listed one by one."""

CONFIRMING_SEEDS = 5
"""Fewest new seeds of a confirming experiment."""


def certainty_notes(board: Leaderboard) -> list[str]:
    """List what the verdicts rest on: looks, trials that went astray, undecided variants, misleading factors."""
    return [
        *_astray_notes(board),
        *_look_notes(board),
        *_equivalence_notes(board),
        *_undecided_notes(board),
        *_factor_notes(board),
    ]


def luck(board: Leaderboard) -> str:
    """Say how much of the winner's difference may be luck; empty if nothing is gained, or nothing of it is luck."""
    best, here = board.winner, board.winner_here
    if best is None or not _gains(board, best):
        return ""
    found = fmt.difference(best.difference)
    guesses = {"on these queries": here, "for new ones": best}
    estimates = {scope: fmt.difference(one.shrunk) for scope, one in guesses.items() if one is not None}
    if set(estimates.values()) == {found}:
        return ""
    said = " and ".join(f"{estimate} {scope}" for scope, estimate in estimates.items())
    return (
        f"{best.name} has the largest of {best.compared} differences, so luck has probably helped it: {found} was "
        f"found. With that luck taken off, the estimate is {said}."
    )


def _gains(board: Leaderboard, best: Winner) -> bool:
    """Return whether the winner of several gains something, and is not equivalent to the baseline."""
    return best.difference > 0 and best.compared > 1 and not _is_equivalent(board, best.name)


def confirmation(board: Leaderboard) -> str:
    """Return the commands that compare the winner with the baseline on new seeds.

    Empty if nothing is gained, if the winner is equivalent to the baseline, and after a race, whose winner
    ``python -m answer`` confirms.
    """
    best, experiment = board.winner, board.experiment
    if (
        experiment.question.get("race")
        or best is None
        or not _gains(board, best)
        or "\n" not in experiment.command
        or any(one.axes for one in experiment.trials)
    ):
        return ""
    used = {trial.seed for trial in experiment.trials}
    count = max(CONFIRMING_SEEDS, len(board.baseline_row.seeds))
    seeds = list(range(max(used) + 1, max(used) + 1 + count))
    settings = [
        f"name={experiment.name}-confirm",
        f"output={ExperimentFolder(experiment.path).confirming.as_posix()}",
        f"seeds={seeds}",
        f"heads.variants={json.dumps([board.baseline, best.name], ensure_ascii=False)}",
        *(["heads.grids=[]"] if experiment.grids else []),
        *(["question=null"] if experiment.question else []),
    ]
    options = " ".join(shlex.quote(setting) for setting in settings)
    return "\n".join(f"{line} {options}" for line in experiment.command.splitlines())


def would_take(verdict: Verdict, resolution: float | None) -> str:
    """Say what would decide an open verdict for new queries; empty if it is decided or nothing can be said."""
    design = verdict.design
    if design is None or verdict.new_queries.word not in ("no difference shown", "undecided"):
        return ""
    wanted = max(abs(verdict.difference), resolution or 0.0)
    needed = design.queries_needed(wanted)
    if needed is not None:
        return f"about {fmt.count(_round(needed))} queries would show it"
    seeds = design.seeds_needed(wanted)
    return f"about {seeds} seeds would show it" if seeds is not None else "more seeds and more queries would show it"


def _is_equivalent(board: Leaderboard, label: str) -> bool:
    """Say whether a variant is equivalent to the baseline in either scope."""
    verdict = next(row.verdict for row in board.rows if row.label == label)
    return verdict is not None and "equivalent" in (verdict.these_queries.word, verdict.new_queries.word)


def _astray_notes(board: Leaderboard) -> list[str]:
    if not board.astray:
        return []
    found = [
        f"{one.variant}: seed {one.seed} went astray. It scores {fmt.points(one.score)}; the median of the variant's "
        f"other seeds is {fmt.points(one.median)}. It counts in every number."
        for one in board.astray
    ]
    which = "that trial" if len(found) == 1 else "those trials"
    changes = [
        f"{row.label} would be {word_text(after.word, board.resolution)} {where} {fmt.change(after)} instead of "
        f"{word_text(before.word, board.resolution)}"
        for row, before, after, where in _changed(board)
    ]
    said = "; ".join(changes) if changes else "every verdict would be the same"
    return [*found, f"Without {which}, {said}."]


def _changed(board: Leaderboard) -> list[tuple[Row, Scope, Scope, str]]:
    found = []
    for row in board.rows:
        after = board.without.get(row.label)
        if row.verdict is None or after is None:
            continue
        found += [
            (row, old, new, where)
            for old, new, where in (
                (row.verdict.these_queries, after.these_queries, "on these queries"),
                (row.verdict.new_queries, after.new_queries, "for new queries"),
            )
            if old.word != new.word
        ]
    return found


def _look_notes(board: Leaderboard) -> list[str]:
    looks = len(board.experiment.rounds.looks) if board.experiment.rounds else 0
    if looks < 2:
        return []
    if board.race is not None:
        return [
            f"The race took {looks} rounds. After each, a head left if the leader was shown to be better, and only the "
            "others got more seeds; a head that left early has a wide interval."
        ]
    return [
        f"The verdicts were read {looks} times while seeds were added. Words and intervals account for that: each "
        "variant keeps the verdict, the difference and the interval of the look that decided it." + _effects_note(board)
    ]


def _effects_note(board: Leaderboard) -> str:
    """Say how effects are judged after several looks; empty if there are none."""
    if not board.factors:
        return ""
    if most_seeds(board.experiment) is None:
        return " Effects of factors use all seeds, and are judged more strictly."
    return " Effects of factors use all seeds, and are judged as in a single look: no round depended on them."


def _equivalence_notes(board: Leaderboard) -> list[str]:
    """Explain equivalence where an interval reaches beyond the resolution."""
    if board.resolution is None:
        return []
    wide = [
        row.label
        for row in board.rows
        if row.verdict is not None
        and any(
            scope.word == "equivalent" and max(-(scope.low or 0.0), scope.high or 0.0) > board.resolution
            for scope in (row.verdict.these_queries, row.verdict.new_queries)
        )
    ]
    if not wide:
        return []
    return [
        f"{fmt.listed(wide)}: equivalent although the 95% interval reaches beyond {fmt.amount(board.resolution)}, "
        "since equivalence takes two one-sided tests at 5%, which is a 90% interval."
    ]


def _undecided_notes(board: Leaderboard) -> list[str]:
    if board.resolution is None:
        return []
    judged = [(row, row.verdict, row.verdict.design) for row in board.rows if row.verdict is not None]
    asked_new = asks_about_new_queries(board.experiment)
    where = "for new queries" if asked_new else "on these queries"
    undecided = [
        (row, verdict, design)
        for row, verdict, design in judged
        if design is not None
        and board.race is None  # which decides nothing about its losers
        and (verdict.new_queries if asked_new else verdict.these_queries).word == "undecided"
    ]
    found = []
    for row, verdict, design in undecided[:SHOWN]:
        seeds = fmt.seeds_needed(design, board.resolution, new_queries=asked_new)
        found.append(
            f"{row.label}: undecided {where} after {verdict.seeds} seeds; detecting a difference of "
            f"{fmt.amount(board.resolution)} takes {seeds} seeds."
        )
    if len(undecided) > SHOWN:
        found.append(f"{len(undecided) - SHOWN} more variants are undecided {where}.")
    designs = [design for _, _, design in judged if design is not None]
    floor = max((smallest_equivalence(one.difference.query_part, len(judged)) for one in designs), default=0.0)
    if floor > board.resolution:
        found.append(
            f"On new queries, {board.query_count} queries cannot show equivalence within "
            f"{fmt.amount(board.resolution)}, whatever the number of seeds; {fmt.amount(floor)} is the limit."
        )
    return found


def _factor_notes(board: Leaderboard) -> list[str]:
    found = []
    for one in board.factors:
        if one.effects is None:
            found.append(f"The factors of {one.grid} have no effects here: {one.refusal}.")
        else:
            found += warnings(one.effects)
    return found


def _round(number: int) -> int:
    """Round to two digits."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step
