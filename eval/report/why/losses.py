"""What each form of storage and each further search takes off each head, and whether that differs from the baseline."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from eval.report import format as fmt
from eval.report.canvas import cells_figure
from eval.report.explanations import Explanation
from eval.report.table import Leaderboard
from eval.verdicts import Verdict
from experiment.disk.records import Meaning

__all__ = [
    "LOSS_HEADING",
    "LOSS_MEANING",
    "largest_loss",
    "loss_figure",
    "loss_lines",
    "loss_sentences",
    "loss_summary",
    "losses_by_trial",
]

LOSS_MEANING = Meaning(
    title="What compression and fast search take off each head",
    group="compression",
    formula="score with the form of storage or the search, less the score of the same trials without it, in points; in "
    "bold where that is distinguishable from the baseline's, for new queries and corrected for all variants and forms; "
    "after a head's name, the difference from the baseline's",
    range=(-1.0, 1.0),
    high="Nothing is lost, or something is gained.",
    low="The head's embeddings do not survive the form: their scores depend on what it drops.",
    source="docs/guides/evaluate.md; the tests are those of every verdict, docs/method/verdicts.md",
)

HEADS = 4
"""Heads that the summary has a sentence of."""


def loss_sentences(board: Leaderboard) -> list[str]:
    """Say which heads lose more or less than the baseline, one sentence for each form, and with which forms none."""
    said, none, few = [], [], []
    changes = {
        one.form: f" ({board.baseline}: {fmt.difference(one.change)} points)" for one in board.baseline_row.stored
    }
    for form in forms_of(board):
        verdicts = board.losses.get(form, {})
        if verdicts and all(one.word == "too few seeds" for one in verdicts.values()):
            few.append(form)
        elif parts := [
            f"{_named(found)} {what}"
            for word, what in (("worse", "more"), ("better", "less"))
            if (found := {label: one for label, one in verdicts.items() if one.word == word})
        ]:
            same = changes.get(form, "") if _single(board) else ""
            said.append(f"{form}{same}: {'; '.join(parts)} than {board.against}.")
        elif verdicts:
            none.append(form)
    if none:
        said.append(f"No head is distinguishable from {board.against} in what it loses with {', '.join(none)}.")
    if few:
        said.append(f"Too few seeds to compare what heads lose with {', '.join(few)}.")
    return said


def loss_summary(board: Leaderboard) -> list[str]:
    """Say with which forms each head loses more than the baseline, the head that loses most first."""
    lost: dict[str, dict[str, float]] = {}
    for form in forms_of(board):
        for label, one in board.losses.get(form, {}).items():
            if one.word == "worse":
                lost.setdefault(label, {})[form] = one.difference
    ordered = sorted(lost, key=lambda label: min(lost[label].values()))
    lines = []
    for label in ordered[:HEADS]:
        forms = sorted(lost[label], key=lost[label].__getitem__)
        named = fmt.listed([f"{form} ({fmt.difference(lost[label][form])} points)" for form in forms])
        lines.append(f"{label} loses more than {board.against} with {named}.")
    if len(ordered) > HEADS:
        lines.append(f"{len(ordered) - HEADS} more heads lose more than {board.against} with some form.")
    return lines


def largest_loss(board: Leaderboard) -> str:
    """Say what takes off most on average, and between which heads it varies."""
    changes: dict[str, dict[str, float]] = {}
    for row in board.rows:
        for one in row.stored:
            changes.setdefault(one.form, {})[row.label] = one.change
    if not changes:
        return ""
    form = min(changes, key=lambda name: float(np.mean(list(changes[name].values()))))
    most, least = (choose(changes[form], key=changes[form].__getitem__) for choose in (min, max))
    if most == least:
        return f"{form} takes off most: {fmt.difference(changes[form][most])} points."
    return (
        f"{form} takes off most: from {fmt.difference(changes[form][least])} points for {least} to "
        f"{fmt.difference(changes[form][most])} points for {most}."
    )


def forms_of(board: Leaderboard) -> list[str]:
    """Return the forms, the largest first, each centred one after the one that is not centred."""
    forms = list(dict.fromkeys(one.form for row in board.rows for one in row.stored))
    plain = [_uncentred(form) for form in forms]
    return sorted(forms, key=lambda form: (plain.index(_uncentred(form)), form != _uncentred(form)))


def _uncentred(form: str) -> str:
    return "-".join(step for step in form.split("-") if step != "centred")


def _single(board: Leaderboard) -> bool:
    return sum(row.kind == "baseline" for row in board.rows) == 1


def _named(verdicts: Mapping[str, Verdict]) -> str:
    """Name rows by the size of their difference, the largest first: ``a (−1.20) and b (−0.80) lose``."""
    ordered = sorted(verdicts, key=lambda label: -abs(verdicts[label].difference))
    named = fmt.listed([f"{label} ({fmt.change(verdicts[label].new_queries)})" for label in ordered])
    return f"{named} lose{'s' if len(ordered) == 1 else ''}"


def loss_figure(board: Leaderboard) -> Figure:
    """Draw the change of each row by each form; in bold where it is distinguishable from its baseline's."""
    rows, forms = [row for row in board.rows if row.stored], forms_of(board)
    changes = [{one.form: one.change for one in row.stored} for row in rows]
    values = np.array([[row.get(form, np.nan) for form in forms] for row in changes])
    verdicts = [[board.losses.get(form, {}).get(row.label) for form in forms] for row in rows]
    bold = [[one is not None and one.word in ("better", "worse") for one in line] for line in verdicts]
    figure = cells_figure([row.label for row in rows], forms, values, bold, power=0.5)
    for row, label in zip(rows, figure.axes[0].get_yticklabels(), strict=True):
        label.set_fontweight("bold" if row.kind == "baseline" else "normal")
    return figure


def losses_by_trial(board: Leaderboard) -> Explanation:
    """Return the change of every trial's score by each form, as a diagnostic whose parts are the forms."""
    found: dict[str, dict[str, dict[tuple[int, str], float]]] = {form: {} for form in forms_of(board)}
    for trial in board.experiment.trials:
        for dataset, evaluation in trial.evaluations.items():
            plain, ids = evaluation.record.measures.get(board.measure, {}), board.queries.get(dataset, ())
            for form, entry in evaluation.record.storage.items():
                if form in found and plain and next(iter(entry.measures), None) == board.measure:
                    change = float(np.mean([entry.per_query[query] - plain[query] for query in ids]))
                    found[form].setdefault(trial.label, {})[trial.seed, dataset] = change
    return Explanation("losses", LOSS_MEANING.replace(title=f"Change of {board.measure} with"), found)


LOSS_HEADING = (
    *("form", "variant", "bytes_per_vector", "index_bytes", "score", "change", "low", "high", "recall"),
    *("against_baseline", "against_baseline_low", "against_baseline_high", "adjusted_p", "word"),
)


def loss_lines(board: Leaderboard) -> list[list[object]]:
    """Return the data of the figure, one line for each row and form; scores are from 0 to 1."""
    lines: list[list[object]] = []
    for row in board.rows:
        for one in row.stored:
            low, high = one.interval or (None, None)
            verdict = board.losses.get(one.form, {}).get(row.label)
            scope = verdict.new_queries if verdict else None
            against = [scope.difference, scope.low, scope.high, scope.adjusted_p, scope.word] if scope else [None] * 5
            sizes = [one.bytes_per_vector, one.index_bytes, one.score, one.change, low, high, one.recall]
            lines.append([one.form, row.label, *sizes, *against])
    return lines
