"""The answer in one sentence, and what readers must know before they rely on it."""

from collections.abc import Sequence

from eval.report import format as fmt
from eval.report.certainty import certainty_notes, would_take
from eval.report.chosen import sweeps_of
from eval.report.format import change, difference, ratio, rough, share, span
from eval.report.rates import lost_gains
from eval.report.results import Trial
from eval.report.table import Leaderboard, Row
from eval.report.words import tone, word_text
from eval.verdicts import MINIMUM_SEEDS, Race, Verdict, Word
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import CandidateRecall
from experiment.fields import setting_text
from experiment.saturation import saturation_warning

__all__ = ["answer", "notes", "remarks", "warnings"]

UNEVENLY_CLIPPED = 0.2
"""Variants whose shares of clipped steps differ by more than this are not trained alike."""

MOST_POINTS = 4
"""Settings of the axes that a note names one by one."""


def answer(board: Leaderboard) -> str:
    """Answer the experiment's question in a sentence or two, no more strongly than the data allow."""
    judged = [(row, row.verdict) for row in board.rows if row.verdict is not None]
    if not judged:
        reason = "no other variant has a trial that counts" if board.baseline_row.seeds else "none of its trials counts"
        return f"Nothing can be compared with {board.baseline}: {reason}."
    if board.race is not None:
        return _race(board, board.race)
    if all(verdict.fixed for _, verdict in judged):
        return _fixed(board, judged)
    if all(tone(verdict) == "refused" for _, verdict in judged):
        best, verdict = max(judged, key=_gain)
        baseline = board.baseline_of(best.label)
        seeds = _counted(max(one.seeds for _, one in judged), "seed")
        return (
            f"No verdict with {seeds} ({MINIMUM_SEEDS} are needed): the best of the other variants, {best.label}, "
            f"differs from {baseline} by {difference(verdict.difference)} points of {board.measure}, which may be luck."
        )
    better = [(row, verdict) for row, verdict in judged if "better" in _words(verdict)]
    if better:
        sure = [one for one in better if one[1].new_queries.word == "better"]
        return _winner(board, *max(sure or better, key=_gain), len(better))
    return _none_better(board, [verdict for _, verdict in judged])


def _race(board: Leaderboard, race: Race) -> str:
    """Name the winner of a race, and say where its gain is measured."""
    best, *others = race.survivors
    rivals = f"{_counted(len(others), 'other head')} {'is' if len(others) == 1 else 'are'} not shown to be worse"
    text = (
        f"Of {len(board.rows)} heads, {best} scores best on {_queries(board)}; "
        f"{rivals if others else 'every other head is shown to be worse'}."
    )
    if best == board.baseline:
        return f"{text} No head in this race is ahead of the baseline."
    folder = ExperimentFolder(board.experiment.path).confirming.name
    return f"{text} A race chooses and proves nothing: {folder} compares it with {board.baseline} on new seeds."


def _words(verdict: Verdict) -> tuple[Word, Word]:
    return verdict.these_queries.word, verdict.new_queries.word


def _fixed(board: Leaderboard, judged: Sequence[tuple[Row, Verdict]]) -> str:
    """Answer for single models, about which only new queries say more."""
    best, verdict = max(judged, key=_gain)
    baseline = board.baseline_of(best.label)
    shown = {"better": "scores higher than", "worse": "scores lower than"}.get(
        verdict.new_queries.word, "is not distinguishable from"
    )
    return (
        f"These models, one seed each: {best.label} {shown} {baseline}, {change(verdict.new_queries)} points of "
        f"{board.measure} on {_queries(board)} and new ones like them. Whether its head is the reason takes "
        f"{MINIMUM_SEEDS} seeds of each."
    )


def _none_better(board: Leaderboard, verdicts: Sequence[Verdict]) -> str:
    words = [verdict.these_queries.word for verdict in verdicts]
    worse, equal = words.count("worse"), words.count("equivalent")
    where = f"{_queries(board)} with {_counted(len(board.baseline_row.seeds), 'seed')}"
    if worse == len(verdicts):
        return f"Every variant is worse than {board.against} on {where}."
    if equal == len(verdicts):
        return f"Every variant is {word_text('equivalent', board.resolution)} of {board.against} on {where}."
    parts = []
    if worse:
        parts.append(f"{worse} of {len(verdicts)} {'is' if worse == 1 else 'are'} worse")
    if equal:
        parts.append(
            f"{equal} of {len(verdicts)} {'is' if equal == 1 else 'are'} {word_text('equivalent', board.resolution)}"
        )
    open_ones = [verdict for verdict in verdicts if tone(verdict) == "open"]
    here = [one.smallest_shown_here for one in open_ones if one.smallest_shown_here]
    new = [one.smallest_shown for one in open_ones if one.smallest_shown]
    power = f"; {_detectable(board, here, new)}" if here and new else ""
    if parts:
        return f"No variant is better than {board.against} on {where}, and {' and '.join(parts)}{power}."
    return f"No variant is distinguishable from {board.against} on {where}{power}."


def notes(board: Leaderboard) -> list[str]:
    """List what readers must know: the warnings, then seeds, the sweep, data and index."""
    return [*warnings(board), *remarks(board)]


def warnings(board: Leaderboard) -> list[str]:
    """List what speaks against relying on the numbers: what is missing, failed or looks wrong."""
    return [
        *board.experiment.remarks,
        *_seed_notes(board),
        *_failure_notes(board),
        *certainty_notes(board),
        *_sanity_notes(board),
    ]


def remarks(board: Leaderboard) -> list[str]:
    """List how the numbers came about."""
    return [*_pairing_notes(board), *_sweep_notes(board), *_data_notes(board)]


def _detectable(board: Leaderboard, here: Sequence[float], new: Sequence[float]) -> str:
    """Say which differences the experiment could have detected, and whether there was room for such a gain."""
    room = 1 - (board.baseline_row.mean(board.measure) or 0.0)
    text = f"the experiment could have detected {_span(here)} points on these queries, {_span(new)} on new ones"
    if min(here) > room:
        return f"no improvement could have been detected: only {rough(room)} points are left to gain, and {text}"
    if min(new) > room:
        text += f", of which only {rough(room)} are left to gain"
    return text


def _span(differences: Sequence[float]) -> str:
    """Write the smallest differences that could have been detected: one number, or the range over variants."""
    least, most = rough(min(differences)), rough(max(differences))
    return least if least == most else f"{least} to {most}"


def _winner(board: Leaderboard, best: Row, verdict: Verdict, count: int) -> str:
    here, new, baseline = verdict.these_queries, verdict.new_queries, board.baseline_of(best.label)
    trained = _counted(verdict.seeds, "seed")
    seeds = f"with {trained}" if verdict.ahead is None else f"ahead in {verdict.ahead} of {trained}"
    text = (
        f"{best.label} gains {change(here).replace('+', '')} points of {board.measure} over {baseline} "
        f"on {_queries(board)}, {seeds}; "
    )
    if new.word == "better":
        text += f"it also holds for new queries {span(new).replace('+', '')}"
    else:
        needed = would_take(verdict, board.resolution)
        text += f"whether it holds for new queries is not shown {span(new)}{f'; {needed}' if needed else ''}"
    text += _price(board, best, baseline)
    if count > 1:
        text += f" {count} variants are better than {board.against}."
    return text


def _price(board: Leaderboard, best: Row, baseline: str) -> str:
    base = next(row.costs for row in board.rows if row.label == baseline)
    if best.costs is not None and best.costs.folds:
        return ". It folds to one matrix, so it costs nothing extra after training."
    if best.costs is not None and base is not None and base.multiply_adds > 0:
        return f". It takes {ratio(best.costs.multiply_adds / base.multiply_adds)} the multiply-adds of {baseline}."
    return "."


def _queries(board: Leaderboard) -> str:
    names = list(board.datasets)
    where = names[0] if len(names) == 1 else f"{len(names)} datasets"
    return f"these {board.query_count:,} queries ({where})"


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
    fewer: dict[int, list[str]] = {}
    for row in board.rows:
        most = max(len(row.seeds), len(board.baseline_row.seeds))
        if row.verdict is not None and row.verdict.ahead is not None and row.verdict.seeds < most:
            fewer.setdefault(row.verdict.seeds, []).append(row.label)
    if not fewer:
        return []
    labels = [label for group in fewer.values() for label in group]
    seeds = str(min(fewer)) if len(fewer) == 1 else f"{min(fewer)} to {max(fewer)}"
    return [
        f"{fmt.listed(labels)}: compared with {board.against} over the {seeds} seeds that both have; the difference is "
        "not that of the two means."
    ]


def _failure_notes(board: Leaderboard) -> list[str]:
    """Give each reason once per row, with the seeds that it excludes."""
    found = []
    for row in (*board.rows, *board.references):
        for reason in dict.fromkeys(why for _, why in row.failures):
            seeds = [str(seed) for seed, why in row.failures if why == reason]
            which = f"seed {seeds[0]} does" if len(seeds) == 1 else f"seeds {fmt.joined(seeds)} do"
            found.append(f"{row.label}: {which} not count: {reason}")
    return found


def _not_above(board: Leaderboard, name: str) -> str | None:
    """Name the trained baseline, and where on the axes it does not score above a reference row; None if nowhere."""
    means = {row.label: row.mean(board.measure) for row in (*board.rows, *board.references)}
    references = {one.label: one.record.axes for one in board.experiment.references if one.record.name == name}
    baselines = {trial.label: trial for trial in board.experiment.trials if trial.record.is_baseline}
    below = []
    for label, trial in baselines.items():
        here = [row for row, axes in references.items() if axes.items() <= trial.record.axes.items()]
        mean, limits = means.get(label), [limit for row in here if (limit := means[row]) is not None]
        if mean is not None and limits and mean <= limits[0]:
            below.append(trial)
    if not below:
        return None
    text = f"{_where(below, len(baselines))}the trained {below[0].record.label}"
    return text[0].upper() + text[1:]


def _where(trials: Sequence[Trial], total: int) -> str:
    """Say at which settings of the axes some trials are, to begin a sentence: ``at max_pairs=400 and 1600, ``."""
    axes, points = trials[0].axes, [trial.point for trial in trials]
    if not axes:
        return ""
    if len(points) == 1:
        return f"at {points[0]}, "
    if len(axes) > 1 or len(points) > MOST_POINTS:
        return f"at {len(points)} of {total} settings of the axes, "
    (axis,) = axes
    return f"at {axis}={fmt.joined([trial.axes[axis] for trial in trials])}, "


def _sanity_notes(board: Leaderboard) -> list[str]:
    found = []
    if trained := _not_above(board, "untrained"):
        found.append(
            f"{trained} does not score above its own initialisation: training did not help, so "
            "comparing heads says little here. Check the learning rate and the training data."
        )
    if trained := _not_above(board, "backbone"):
        found.append(
            f"{trained} does not score above the backbone's token states without a head: "
            "a head loses some of the backbone's information, and training has not made up for it."
        )
    found += lost_gains(board)
    clipped: dict[str, list[float]] = {}
    for row in board.rows:
        if row.costs is not None and row.costs.clipped is not None:
            clipped.setdefault(board.baseline_of(row.label), []).append(row.costs.clipped)
    uneven = max(clipped.values(), key=lambda shares: max(shares) - min(shares), default=[0.0])
    if max(uneven) - min(uneven) > UNEVENLY_CLIPPED:
        found.append(
            f"Gradients were clipped in {share(min(uneven))} to {share(max(uneven))} of the steps, depending on the "
            "variant, so max_grad_norm slows some variants more than others. Compare with a larger one."
        )
    bm25 = next((row.mean(board.measure) for row in board.references if row.label == "bm25"), None)
    best = max((row.mean(board.measure) or 0.0 for row in board.rows), default=0.0)
    if bm25 is not None and bm25 > best:
        found.append(
            f"BM25 scores {fmt.points(bm25 - best)} points above the best variant: on this data, training or the "
            "backbone is the bottleneck, not the head. Train longer or on more data, or use a stronger backbone, "
            "before comparing heads."
        )
    records = [trial.record for trial in board.experiment.trials]
    facts = {
        "devices": {record.device for record in records},
        "precisions": {record.precision for record in records},
        "initialisations": {record.init for record in records if "heads.init" not in record.axes},
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
            found.append(f"{name}: {fmt.joined(facts)}.")
        if dataset.notes.get("ids_with_spaces"):
            found.append(
                f"{name}: run files percent-encode white space in ids. Score them with qrels/{name}.qrels, which does "
                "the same, and not with the original judgements."
            )
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
    measure, collections = first.measure, ""
    name, _, where = measure.partition(" on ")
    if len(places := where.split("; ")) > 1:
        measure = f"the mean {name} over {len(places)} collections"
        collections = f" The collections: {where}."
    found = [
        f"Each variant was trained at {_counted(first.points, 'point')} of the sweep, and the best by "
        f"{measure} was kept{first.by_whom}; the queries of this report had no part in the choice.{collections}"
    ]
    if saturated := saturation_warning(list(sweeps_of(board.experiment.trials).values())):
        found.append(f"{saturated}.")
    edges: dict[str, list[str]] = {}
    for label, one in chosen:
        for key, (least, most) in one.at_edge.items():
            value, least, most = map(setting_text, (one.values[key], least, most))
            where = f"the chosen {key}={value} is at the edge of the grid ({least} to {most})"
            edges.setdefault(where, []).append(label)
    for where, labels in edges.items():
        who = "every variant" if len(labels) == len(chosen) > 1 else fmt.listed(labels)
        found.append(f"{who}: {where}; a value outside it may be better. Widen the grid before relying on this.")
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


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _gain(judged: tuple[Row, Verdict]) -> float:
    return judged[1].difference
