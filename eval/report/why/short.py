"""The answers at the top of the page, each to one question: anisotropy, encodings, clipping, where the gain sits."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from eval.report import format as fmt
from eval.report.answer import UNEVENLY_CLIPPED
from eval.report.explanations import Explanation
from eval.report.table import Leaderboard
from eval.report.why.bands import Split
from eval.report.why.losses import forms_of, largest_loss, loss_summary
from eval.report.why.predict import Prediction
from eval.report.why.sentences import alarm, branch_means, by_head, leader, prediction_sentence, split_sentence

__all__ = ["clipping", "encodings", "gain", "in_short"]

IN_SHORT = {
    "gain-backbone-rank": "By the backbone's rank",
    "gain-corpus-frequency": "By the rarity of words",
    "gain-document-length": "By document length",
    "gain-corpus-frequency-decay": "Weight decay",
}
"""The splits whose sentences are repeated, under these names."""

ENCODING = re.compile(r"(centred-)?fde\b")
"""The names of searches by a fixed-dimensional encoding."""

BROKEN = 0.5
"""A search breaks a head that keeps less than this share of its exact score."""


def in_short(board: Leaderboard, found: Sequence[Split], predicted: Sequence[Prediction]) -> list[tuple[str, str]]:
    """Return the questions that the page answers, each with its answer."""
    explained = board.explanations.values()
    lines = [answer for one in explained if one.parts and (answer := alarm(board, one))]
    lines.append(("Fixed-dimensional encodings (MUVERA)", encodings(board)))
    lines.append(("Clipping", clipping(board)))
    lines.append(("Where the gain sits", gain(board)))
    lines += [(IN_SHORT[one.name], split_sentence(board, one)) for one in found if one.name in IN_SHORT]
    lines += [("Branches", branches(board, one)) for one in explained if one.name == "branch-ablation" and one.parts]
    lines.append(("Compression and fast search", " ".join([largest_loss(board), *loss_summary(board)])))
    lines.append(("Does any of it predict the score?", prediction_sentence(predicted)))
    return [(question, answer.strip()) for question, answer in lines if answer.strip()]


def encodings(board: Leaderboard) -> str:
    """Say which heads lose most of their score in a search by fixed-dimensional encodings."""
    forms = [form for form in forms_of(board) if ENCODING.match(form)]
    if not forms:
        return "not measured; add fde and centred-fde to eval.searches."
    said, fine = [], {}
    for form in forms:
        kept = {
            row.label: one.score / (one.score - one.change)
            for row in board.rows
            for one in row.stored
            if one.form == form and one.score > one.change
        }
        broken = {label: share for label, share in kept.items() if share < BROKEN}
        if broken:
            heads = fmt.listed(by_head(board, broken, fmt.share))
            said.append(f"{form} breaks {heads}: less than half of the exact score is left.")
        elif kept:
            fine[form] = kept
    if fine:
        worst = min(fine, key=lambda form: min(fine[form].values()))
        label = min(fine[worst], key=fine[worst].__getitem__)
        least = f"{fmt.share(fine[worst][label])} of the exact score is left ({label}{f', {worst}' * (len(fine) > 1)})"
        said.append(f"{fmt.listed(list(fine))} break{'s' * (len(fine) == 1)} no head: at least {least}.")
    measured = sum(any(one.form in forms for one in row.stored) for row in board.rows)
    if measured < len(board.rows):
        said.append(f"Only {measured} of {len(board.rows)} rows of the leaderboard were measured.")
    return " ".join(said)


def clipping(board: Leaderboard) -> str:
    """Say whether gradients were clipped, and whether that differed between heads."""
    shares: dict[str, dict[str, list[float]]] = {}
    for trial in board.experiment.trials:
        share = trial.record.train.clipped if trial.record.train is not None else None
        if share is not None:
            limit = trial.axes.get("max_grad_norm")
            where = "" if limit is None else f"with max_grad_norm={limit}, "
            shares.setdefault(where, {}).setdefault(trial.record.label, []).append(share)
    said = [
        f"{where}{_clipped({head: float(np.mean(values)) for head, values in heads.items()})}"
        for where, heads in shares.items()
    ]
    return f"{'; '.join(said)}." if said else ""


def _clipped(shares: Mapping[str, float]) -> str:
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    if not shares[high]:
        return "inactive: no step was clipped"
    least, most = fmt.share(shares[low]), fmt.share(shares[high])
    if least == most:
        return f"active in {most} of the steps{' of every head' if len(shares) > 1 else ''}"
    ends = f"from {least} of the steps ({low}) to {most} ({high})"
    if shares[high] - shares[low] > UNEVENLY_CLIPPED:
        return f"active, and uneven between heads, {ends}, so that it slowed some more than others"
    return f"active, and about equal for all heads, {ends}"


def gain(board: Leaderboard) -> str:
    """Say whether a head gains anything on all queries."""
    row = leader(board)
    if row is None or row.verdict is None:
        return ""
    change = f"{fmt.change(row.verdict.new_queries)} points"
    against = board.baseline_of(row.label)
    if row.verdict.word == "better":
        return f"{row.label} gains {change} over {against}, for new queries too."
    if row.verdict.these_queries.word == "better":
        return f"{row.label} gains {change} over {against} on these queries, which is not certain for new ones."
    return f"no head is shown to gain. The largest difference from {against} is {change} ({row.label})."


def branches(board: Leaderboard, explanation: Explanation) -> str:
    """Say which branch a head needs most, and which least."""
    means = branch_means(board, explanation)
    texts = [
        f"without its {branch}, {head} scores {fmt.rough(abs(value))} points {'lower' if value > 0 else 'higher'}"
        for (head, branch), value in means.items()
    ]
    if len(texts) == 1:
        return f"{texts[0]}."
    return f"{texts[0]}, which is the branch that matters most; {texts[-1]}, which is the one that matters least."
