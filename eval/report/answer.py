"""The answer in one sentence, and what readers must know before they rely on it."""

from collections.abc import Sequence

from eval.report.format import change, difference, ratio, rough
from eval.report.table import Leaderboard, Row
from eval.report.words import tone
from eval.verdicts import MINIMUM_SEEDS, Verdict
from experiment.disk.records import CandidateRecall

__all__ = ["answer", "notes"]


def answer(board: Leaderboard) -> str:
    """Answer the experiment's question in one sentence, no more strongly than the data allow."""
    judged = [(row, row.verdict) for row in board.rows if row.verdict is not None]
    if not judged:
        reason = "no other variant has a trial that counts" if board.baseline_row.seeds else "none of its trials counts"
        return f"Nothing can be compared with {board.baseline}: {reason}."
    tones = [tone(verdict) for _, verdict in judged]
    if set(tones) == {"refused"}:
        best, verdict = max(judged, key=_gain)
        seeds = _counted(max(one.seeds for _, one in judged), "seed")
        return (
            f"No verdict with {seeds} ({MINIMUM_SEEDS} are needed): the best of the other variants, {best.label}, "
            f"differs from {board.baseline} by {difference(verdict.difference)} points of {board.measure}, which may "
            "be luck."
        )
    if "better" in tones:
        winner, verdict = max(((row, one) for row, one in judged if tone(one) == "better"), key=_gain)
        return _winner(board, winner, verdict, tones.count("better"))
    worse = tones.count("worse")
    if worse == len(judged):
        return f"Every variant is worse than {board.baseline} on {_where(board)}."
    could = [one.smallest_shown for _, one in judged if tone(one) == "open" and one.smallest_shown]
    power = f"; the experiment could have detected {_span(could)} points" if could else ""
    if worse:
        return (
            f"No variant is better than {board.baseline} on {_where(board)}, and {worse} of {len(judged)} "
            f"{'is' if worse == 1 else 'are'} worse{power}."
        )
    return f"No variant is distinguishable from {board.baseline} on {_where(board)}{power}."


def notes(board: Leaderboard) -> list[str]:
    """List what readers must know: seeds, failures, data, index, and rows that look wrong."""
    return [
        *board.experiment.remarks,
        *_seed_notes(board),
        *_pairing_notes(board),
        *_failure_notes(board),
        *_sanity_notes(board),
        *_sweep_notes(board),
        *_data_notes(board),
    ]


def _span(differences: Sequence[float]) -> str:
    """Write the smallest differences that could have been detected: one number, or the range over variants."""
    least, most = rough(min(differences)), rough(max(differences))
    return f"a difference of {least}" if least == most else f"differences of {least} to {most}"


def _winner(board: Leaderboard, best: Row, verdict: Verdict, count: int) -> str:
    text = (
        f"{best.label} gains {change(verdict).replace('+', '')} points of {board.measure} over {board.baseline} "
        f"on {_where(board)}"
    )
    base = board.baseline_row.costs
    if best.costs is not None and best.costs.folds:
        text += ", and folds to one matrix, so it costs nothing extra after training"
    elif best.costs is not None and base is not None and base.multiply_adds > 0:
        text += f", at {ratio(best.costs.multiply_adds / base.multiply_adds)} the multiply-adds of {board.baseline}"
    if count > 1:
        text += f"; {count} variants are better than {board.baseline}"
    return text + "."


def _where(board: Leaderboard) -> str:
    names = list(board.datasets)
    where = names[0] if len(names) == 1 else f"{len(names)} datasets"
    return f"{where} with {_counted(len(board.baseline_row.seeds), 'seed')}"


def _seed_notes(board: Leaderboard) -> list[str]:
    seeds = len(board.baseline_row.seeds)
    if seeds == 1:
        return [
            "One seed: the intervals cover the choice of queries for these trials, not the heads: with a different "
            f"seed the order may be reversed. Train at least {MINIMUM_SEEDS} seeds."
        ]
    if seeds < MINIMUM_SEEDS:
        return [f"{_counted(seeds, 'seed')}: too few for verdicts. Train at least {MINIMUM_SEEDS}."]
    return []


def _pairing_notes(board: Leaderboard) -> list[str]:
    """Say when a difference is over fewer seeds than the two means, and so is not their difference."""
    return [
        f"{row.label}: the mean is over {_counted(len(row.seeds), 'seed')} and the difference from {board.baseline} "
        f"over the {row.verdict.seeds} that both have, so it is not the difference between the two means."
        for row in board.rows
        if row.verdict is not None and row.verdict.ahead is not None
        if row.verdict.seeds < max(len(row.seeds), len(board.baseline_row.seeds))
    ]


def _failure_notes(board: Leaderboard) -> list[str]:
    """Give each reason once per row, with the seeds that it excludes."""
    found = []
    for row in (*board.rows, *board.references):
        for reason in dict.fromkeys(why for _, why in row.failures):
            seeds = [str(seed) for seed, why in row.failures if why == reason]
            which = f"seed {seeds[0]} does" if len(seeds) == 1 else f"seeds {_joined(seeds)} do"
            found.append(f"{row.label}: {which} not count: {reason}")
    return found


def _sanity_notes(board: Leaderboard) -> list[str]:
    mean = board.baseline_row.mean(board.measure)
    by_name = {row.label: row.mean(board.measure) for row in board.references}
    untrained, backbone = by_name.get("untrained"), by_name.get("backbone")
    found = []
    if mean is not None and untrained is not None and mean <= untrained:
        found.append(
            f"The trained {board.baseline} does not score above its own initialisation: training did not help, so "
            "comparing heads says little here. Check the learning rate and the training data."
        )
    if mean is not None and backbone is not None and mean < backbone:
        found.append(
            f"The trained {board.baseline} scores below the backbone's token states without a head: "
            "training a head lost information that the backbone has."
        )
    records = [trial.record for trial in board.experiment.trials]
    facts = {
        "devices": {record.device for record in records},
        "precisions": {record.precision for record in records},
        "initialisations": {record.init for record in records},
    }
    for what, found_values in facts.items():
        values = sorted(value for value in found_values if value)
        if len(values) > 1:
            found.append(f"Trials differ in more than the head: {what} {', '.join(values)}.")
    return found


def _data_notes(board: Leaderboard) -> list[str]:
    found = []
    trials = [trial for trial in board.experiment.trials if trial.evaluations]
    for name, dataset in board.datasets.items():
        facts = [f"{value} {key.replace('_', ' ')}" for key, value in dataset.notes.items() if value]
        evaluations = [trial.evaluations[name].record for trial in trials if name in trial.evaluations]
        cut = dict(evaluations[0].truncated) if evaluations else {}
        facts += [f"{count} {side} longer than {_limit(board, side)}" for side, count in sorted(cut.items()) if count]
        if facts:
            found.append(f"{name}: {_joined(facts)}.")
        found += _recall_note(name, [one.index.candidate_recall for one in evaluations])
    return found


def _limit(board: Leaderboard, side: str) -> str:
    name = {"queries": "query_length", "documents": "document_length"}.get(side, side)
    length = board.experiment.lengths.get(side)
    return name if length is None else f"{name}={length}"


def _sweep_notes(board: Leaderboard) -> list[str]:
    """Say how the points were chosen, and which are at the edge of the grid."""
    chosen = [(row.label, row.costs.chosen) for row in board.rows if row.costs and row.costs.chosen]
    if not chosen:
        return []
    first = chosen[0][1]
    found = [
        f"Each variant was trained at {_counted(first.points, 'point')} of the sweep, and the best by "
        f"{first.measure} was kept; the queries of this report had no part in the choice."
    ]
    edges: dict[str, list[str]] = {}
    for label, one in chosen:
        for key, (least, most) in one.at_edge.items():
            where = f"the chosen {key}={one.values[key]:g} is at the edge of the grid ({least:g} to {most:g})"
            edges.setdefault(where, []).append(label)
    for where, labels in edges.items():
        found.append(
            f"{_joined(labels)}: {where}; a value outside it may be better. Widen the grid before relying on this."
        )
    for label, one in chosen:
        if one.failed:
            found.append(f"{label}: training failed at {one.failed} of the {one.points} points of the sweep.")
    return found


def _recall_note(name: str, recalls: Sequence[CandidateRecall | None]) -> list[str]:
    known = [recall for recall in recalls if recall]
    if not known:
        return []
    lowest = min(known, key=lambda recall: recall.value)
    return [
        f"{name} was searched with an approximate index; its candidates included at least "
        f"{100 * lowest.value:.1f}% of the top {lowest.at} documents of exact search."
    ]


def _joined(facts: Sequence[str]) -> str:
    return facts[0] if len(facts) == 1 else f"{', '.join(facts[:-1])} and {facts[-1]}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _gain(judged: tuple[Row, Verdict]) -> float:
    return judged[1].difference
