"""What a reader can do with the answer: which head to take, what it costs, and what would say more."""

from collections.abc import Sequence

import numpy as np

from eval.report import format as fmt
from eval.report.judged import asks_about_new_queries
from eval.report.table import Leaderboard, Row
from eval.verdicts import MINIMUM_SEEDS, Race
from experiment.disk.layout import ExperimentFolder

__all__ = ["advice", "inference_cost"]

MATTERS = 0.01
"""The difference that is looked for if the experiment asks for none: one point."""


def advice(board: Leaderboard) -> list[tuple[str, str]]:
    """Return what to do, as headings with a sentence or two each; empty if nothing was compared."""
    judged = [row for row in board.rows if row.verdict is not None]
    if not judged:
        return []
    if board.race is not None:
        return _after_a_race(board, board.race)
    head = _head_to_use(board, judged)
    return [
        ("Head to use", _reason(board, head)),
        ("Its cost", _cost(board, head)),
        ("To learn more", _next_step(board, judged)),
    ]


def inference_cost(row: Row) -> int | None:
    """Return the multiply-adds per token once training is over, in the cheapest equal form of the head."""
    return None if row.costs is None else row.costs.inference_multiply_adds


def _after_a_race(board: Leaderboard, race: Race) -> list[tuple[str, str]]:
    best = next(row for row in board.rows if row.label == race.survivors[0])
    confirming = ExperimentFolder(board.experiment.path).confirming
    if best.label == board.baseline:
        use = f"Keep {board.baseline}: no head in this race is ahead of it."
        more = "Race other heads, or the same ones with other settings."
    else:
        use = (
            f"{best.label}, if {confirming.name} shows that it is better than {board.baseline}; else {board.baseline}."
        )
        more = f"Read {confirming.name}/report/leaderboard.html, which python -m answer writes after the race."
    return [("Head to use", use), ("Its cost", _cost(board, best)), ("To learn more", more)]


def _head_to_use(board: Leaderboard, judged: Sequence[Row]) -> Row:
    def words(row: Row) -> tuple[str, str]:
        return (row.verdict.new_queries.word, row.verdict.these_queries.word) if row.verdict else ("", "")

    for place in (0, 1):
        better = [row for row in judged if words(row)[place] == "better"]
        if better:
            return better[0]
    return max(
        (row for row in board.rows if row.label == board.baseline_of(row.label)),
        key=lambda row: row.mean(board.measure) or 0.0,
    )


def _reason(board: Leaderboard, head: Row) -> str:
    if board.against != board.baseline:
        return _reason_at_settings(board, head)
    if head.verdict is None:
        return f"Keep {head.label}: no other head was shown to be better."
    if head.verdict.new_queries.word == "better":
        return f"Use {head.label}: it is better, also for new queries."
    return f"Use {head.label} for queries like these; for new queries its gain is not certain yet."


def _reason_at_settings(board: Leaderboard, head: Row) -> str:
    """Say the same of an experiment with axes, whose heads are compared at each setting by itself."""
    if head.verdict is None:
        trial = next(trial for trial in board.experiment.trials if trial.label == head.label)
        mean = fmt.points(head.mean(board.measure) or 0.0)
        return (
            f"Keep {trial.record.label}: no other head was shown to be better at the same settings. It scores highest "
            f"at {trial.point} ({mean})."
        )
    scope = "also for new queries" if head.verdict.new_queries.word == "better" else "on these queries"
    best = board.rows[0]
    highest = "" if best is head else f" Of all settings, {best.label} scores highest."
    return f"{head.label}: it is better than {board.against}, {scope}.{highest}"


def _cost(board: Leaderboard, head: Row) -> str:
    baseline = board.baseline_of(head.label)
    cost = inference_cost(head)
    base = inference_cost(next(row for row in board.rows if row.label == baseline))
    if head.costs is None or cost is None or not base:
        return "Unknown: none of its trials counts."
    what = f"{fmt.count(cost)} multiply-adds per token"
    if head.label == baseline:
        return f"{what}."
    folded = " once folded into one matrix" if head.costs.folds else ""
    same = "as many as" if cost == base else f"{fmt.ratio(cost / base)} those of"
    return f"{what}{folded}, {same} {baseline}."


def _next_step(board: Leaderboard, judged: Sequence[Row]) -> str:
    seeds = max(len(board.baseline_row.seeds), 1)
    minutes = _minutes_per_seed(board)
    if board.design is None:
        missing = max(MINIMUM_SEEDS - seeds, 1)
        return f"Train {MINIMUM_SEEDS} seeds of each head{_duration(minutes, missing)}."
    wanted = board.resolution or MATTERS
    size = fmt.amount(wanted)
    if board.resolution is not None and not _undecided(board, judged):
        where = "new" if asks_about_new_queries(board.experiment) else "these"
        return (
            f"Every head is decided at a resolution of {size} on {where} queries. For a finer one, rerun python -m "
            f"answer with question.resolution={50 * wanted:g} and more question.seeds."
        )
    seen, steps = [], []
    for new_queries, where in ((False, "on these queries"), (True, "for new queries")):
        if board.design.smallest_shown(new_queries=new_queries) <= wanted:
            seen.append(where)
            continue
        needed = board.design.seeds_needed(wanted, new_queries=new_queries)
        if needed is not None:
            steps.append(f"{size} {where} takes {needed} seeds{_duration(minutes, max(needed - seeds, 1))}")
            continue
        queries = board.design.queries_needed(wanted) if new_queries else None
        steps.append(
            f"{size} {where} takes about {fmt.count(queries)} judged queries"
            if queries is not None
            else f"{size} {where} is out of reach of more seeds"
        )
    how = "For more seeds, rerun the command at the end of this page with seeds=NUMBER."
    if board.resolution is not None:
        how = "For more seeds, rerun python -m answer with a larger range of question.seeds."
    sentences = [f"A difference of {size} would have been detected {' and '.join(seen)}."] if seen else []
    sentences += [f"Detecting a difference of {'; '.join(steps)}."] if steps else []
    return " ".join([*sentences, how])


def _undecided(board: Leaderboard, judged: Sequence[Row]) -> bool:
    """Return whether a variant is undecided in the scope that the question is about."""
    new = asks_about_new_queries(board.experiment)
    verdicts = [row.verdict for row in judged if row.verdict is not None]
    words = [(one.new_queries if new else one.these_queries).word for one in verdicts]
    return any(word in ("undecided", "too few seeds") for word in words)


def _minutes_per_seed(board: Leaderboard) -> float | None:
    """Return the minutes that one more seed of every variant takes, as the present ones took; None if unknown."""
    total = 0.0
    for label in {trial.label for trial in board.experiment.trials}:
        took = []
        for trial in board.experiment.trials:
            train = trial.record.timings.train_s
            if trial.label == label and train is not None:
                timings = [one.record.timings for one in trial.evaluations.values()]
                took.append(train + sum(one.encode_s + one.index_s + one.search_s for one in timings))
        if not took:
            return None
        total += float(np.mean(took))
    return total / 60


def _duration(minutes: float | None, seeds: int) -> str:
    if minutes is None:
        return ""
    return f" ({seeds} more of each head, about {fmt.seconds(60 * minutes * seeds)})"
