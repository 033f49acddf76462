"""What is known about the queries, and where the gain sits."""

import csv
import io
import json

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from eval.evaluate import evaluate_experiment
from eval.report.drawing import NEUTRAL
from eval.report.explanations import Explanation
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.report.why.bands import splits
from eval.report.why.figure import Panel, draw, shown_rows
from eval.report.why.predict import predictions
from eval.report.write import compare, write_report
from experiment.console.progress import Progress
from experiment.disk.files import write_text
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import (
    EvaluationRecord,
    ExplainRecord,
    Finding,
    Meaning,
    QueriesRecord,
    QueryFacts,
    TrialRecord,
    WordsRecord,
)
from experiment.words import count_texts, words_of
from tests.eval.conftest import DOCUMENTS
from tests.eval.report.factory import Plan, make_experiment

MEANING = Meaning(title="Some", group="geometry", formula="x", range=(0.0, 1.0), high="H.", low="L.", source="s")


def evaluate(config):
    with Progress() as progress:
        evaluate_experiment(config, progress)


def test_words():
    assert words_of("Été, x_1 don't 日本") == ["été", "x_1", "don", "t", "日本"]
    assert count_texts(["a a b", "b c"]) == {"a": 1, "b": 2, "c": 1}
    assert count_texts(["a a b", "b c"], {"b"}) == {"b": 2}


def test_the_facts_of_the_queries(miniature):
    folder = miniature.folder
    WordsRecord(data_hash="0", texts=10, words={"red": 5, "apples": 2, "grows": 1}).write(folder.words_json)
    evaluate(miniature.config("eval.explain=true"))
    facts = QueriesRecord.read(folder.queries_json("odd")).queries
    assert list(facts) == ["q1", "q 2", "q3", "q\u00a04", "5"]
    # "red apples": 5 documents of 31 have "red" and "apples" alike; relevant are three documents with 7 to 10 words.
    documents = [f"{title} {text}".strip() for title, text in DOCUMENTS.values()]
    share = sum("red" in words_of(text) for text in documents) / len(documents)
    one = facts["q1"]
    assert (one.words, one.length, one.relevant) == (2, 8, 3)
    assert one.in_corpus == pytest.approx(share)
    assert one.in_training == pytest.approx(0.2)
    assert one.document_length == 10
    assert facts["q 2"].in_training == 0.0  # "what" is in no training text
    empty = facts["q\u00a04"]
    assert (empty.words, empty.in_corpus, empty.in_training) == (0, None, None)
    assert facts["q3"].truncated is False
    before = folder.queries_json("odd").stat().st_mtime_ns
    evaluate(miniature.config("eval.explain=true"))
    assert folder.queries_json("odd").stat().st_mtime_ns == before


def explained(path, value=lambda label, seed, score: score, facts=None):
    """Add findings and facts to a made-up experiment."""
    for trial in sorted(path.glob("trials/*/seed-*")):
        record = TrialRecord.read(trial / "trial.json")
        score = json.loads((trial / "eval" / "pydocs.json").read_text())["means"]["nDCG@10"]
        found = Finding(
            key="0", meaning=MEANING, values={"documents": value(record.label, record.seed, score)}, seconds=0.1
        )
        ExplainRecord(dataset="pydocs", findings={"some": found}).write(trial / "explain" / "pydocs.json")
    if facts is not None:
        QueriesRecord(key="0", queries=facts).write(path / "queries" / "pydocs.json")
    return path


def fact(number):
    return QueryFacts(
        words=1 + number % 4,
        length=8,
        relevant=1,
        document_length=10 + number,
        truncated=number % 2 == 0,
        in_corpus=number / 100,
        in_training=None,
    )


def test_the_gain_is_that_of_the_queries_of_each_band(tmp_path):
    plan = Plan(effects={"linear": 0.0, "b": 0.0}, queries=40)
    path = explained(make_experiment(tmp_path / "x", plan), facts={f"q{n}": fact(n) for n in range(40)})
    # On queries whose rarest word is frequent (the last ten), b gains .2 exactly.
    for seed in (0, 1, 2):
        base, other = (next(path.glob(f"trials/{name}-*/seed-{seed}/eval/pydocs.json")) for name in ("linear", "b"))
        record, theirs = json.loads(other.read_text()), json.loads(base.read_text())["measures"]["nDCG@10"]
        moved = {query: score * 0.5 + 0.2 * (int(query[1:]) >= 30) for query, score in theirs.items()}
        halved = {query: score * 0.5 for query, score in theirs.items()}
        for file, values in ((other, moved), (base, halved)):
            record = json.loads(file.read_text())
            record["measures"] = dict.fromkeys(record["measures"], values)
            file.write_text(json.dumps(record))
    board = build_leaderboard(load_experiment(path))
    found = {split.name: split for split in splits(board)}
    bands = found["gain-corpus-frequency"].bands
    assert [band.queries for band in bands] == [10, 10, 10, 10]
    assert [band.differences["b"][0] for band in bands] == pytest.approx([0, 0, 0, 0.2], abs=1e-9)
    assert bands[-1].name == "30% to 39%"
    assert bands[-1].differences["b"][1] > 0.1
    truncated = found["gain-truncated"].bands
    assert [(band.name, band.queries) for band in truncated] == [("complete", 20), ("truncated", 20)]
    assert [band.differences["b"][0] for band in truncated] == pytest.approx([0.05, 0.05])
    assert "gain-training-frequency" not in found  # it is not known
    assert "gain-relevant" not in found  # it does not vary
    # The page says so, and the data of its figure is there.
    text = write_report(path).with_name("why.html").read_text()
    assert "points on queries whose rarest word is in 30% to 39% of the documents (10 queries), " in text
    assert "Of 4 intervals of all heads, 1 excludes 0, where about 1 would by chance: 30% to 39%: 1 better." in text
    assert "b,30% to 39%,10,0.2" in (path / "report" / "figures" / "why-gain-corpus-frequency.csv").read_text()


def test_weight_decay_is_compared_at_its_values(tmp_path):
    plan = Plan(effects={"linear": 0.0, "b": 0.0}, queries=40)
    path = explained(make_experiment(tmp_path / "x", plan), facts={f"q{n}": fact(n) for n in range(40)})
    for file in sorted(path.glob("trials/*/seed-*/trial.json")):
        record = TrialRecord.read(file)
        decay = 0.1 if record.label == "b" else 0.0
        record.replace(
            label="linear", is_baseline=True, axes={"optimizer.head_weight_decay": decay}
        ).write(file)  # fmt: skip
    found = {split.name: split for split in splits(build_leaderboard(load_experiment(path)))}
    bands = found["gain-corpus-frequency-decay"].bands
    assert [set(band.differences) for band in bands] == [{"linear @ head_weight_decay=0.1"}] * 4


def test_a_diagnostic_that_is_the_score_predicts_it_and_its_opposite_too(tmp_path):
    effects = {f"v{n}": 0.01 * n for n in range(8)}
    path = explained(
        make_experiment(tmp_path / "x", Plan(effects=effects)), value=lambda label, seed, score: -2 * score
    )
    (one,) = predictions(build_leaderboard(load_experiment(path)))
    assert (one.name, one.part, one.trials, one.heads) == ("some", "documents", 24, 8)
    assert (one.score.value, one.score.low, one.score.high) == pytest.approx((-1.0, -1.0, -1.0))
    assert one.difference is not None
    assert one.difference.value < -0.5


def test_the_correlation_is_spearmans(tmp_path):
    generator = np.random.default_rng(3)
    noise = {(f"v{n}", seed): float(generator.normal()) for n in range(6) for seed in range(3)}
    path = make_experiment(tmp_path / "x", Plan(effects={f"v{n}": 0.0 for n in range(6)}))
    explained(path, value=lambda label, seed, score: noise[label, seed])
    board = build_leaderboard(load_experiment(path))
    (one,) = predictions(board)
    scores = {
        (row.label, seed): value
        for row in board.rows
        for seed, value in zip(row.seeds, row.by_seed("nDCG@10"), strict=True)
    }
    expected = stats.spearmanr([noise[key] for key in scores], list(scores.values())).statistic
    assert one.score.value == pytest.approx(expected, abs=1e-12)
    assert one.score.low < expected < one.score.high
    differences = {
        (label, seed): value - scores["v0", seed] for (label, seed), value in scores.items() if label != "v0"
    }
    expected = stats.spearmanr([noise[key] for key in differences], list(differences.values())).statistic
    assert one.difference.value == pytest.approx(expected, abs=1e-12)


def test_diagnostics_of_several_experiments_are_compared_as_one(tmp_path):
    folders = []
    for name, variants in (("one", ("linear", "a", "b")), ("two", ("linear", "c", "d", "e"))):
        plan = Plan(effects={label: 0.02 * place for place, label in enumerate(variants)})
        path = make_experiment(tmp_path / name, plan, random=len(folders))
        folders.append(explained(path, value=lambda label, seed, score: 3 * score))
    page = compare(folders, tmp_path / "both", Console(file=io.StringIO())).with_name("why.html").read_text()
    assert "one: b" in page
    assert "two: e" in page
    figures = tmp_path / "both" / "figures"
    values = list(csv.DictReader((figures / "why-some.csv").open()))
    assert {row["variant"] for row in values} == {
        "one: linear",
        "one: a",
        "one: b",
        *(f"two: {x}" for x in ("linear", "c", "d", "e")),
    }
    (line,) = csv.DictReader((figures / "why-prediction.csv").open())
    # Of the seven rows, two are the same head.
    assert (line["trials"], line["heads"], float(line["score"])) == ("21", "6", pytest.approx(1.0))
    assert float(line["score_low"]) == pytest.approx(1.0)


def test_the_page_holds_sixty_variants_and_repeats_its_bytes(tmp_path):
    effects = {f"ffn(depth=2, hidden_features={n})": 0.0 for n in range(60)}
    path = explained(make_experiment(tmp_path / "x", Plan(effects=effects, queries=12)))
    page = write_report(path).with_name("why.html")
    text = page.read_text()
    assert all(f"hidden_features={n})" in text for n in range(60))
    lines = (path / "report" / "figures" / "why-some.csv").read_text().splitlines()
    assert len(lines) == 1 + 60 * 3
    # The drawing has 23 of them and the range of the others, which are in a folded table.
    svg = (path / "report" / "figures" / "why-some.svg").read_text()
    assert svg.count("hidden_features=") == 23
    assert "37 others: range and median" in svg
    assert "The 37 others" in text
    assert len(text) < 60_000
    write_report(path)
    assert page.read_text() == text


def test_a_figure_of_many_rows_shows_the_extremes_the_best_and_the_baseline(tmp_path):
    effects = {f"v{n:02}": 0.2 * (n == 30) for n in range(60)}
    path = explained(make_experiment(tmp_path / "x", Plan(effects=effects, queries=60)), lambda label, seed, score: 0.5)
    board = build_leaderboard(load_experiment(path))
    assert [row.label for row in board.rows if row.verdict and row.verdict.word == "better"] == ["v30"]
    points = {label: (float(place), 0.0, 0.0) for place, label in enumerate(effects)}
    turned = {label: (-value, 0.0, 0.0) for label, (value, _, _) in list(points.items())[20:50]}
    rows = [row for row in board.rows if row.label not in ("v40", "v41")]
    shown = shown_rows(rows, [Panel("one", {"": points}), Panel("two", {"a": turned})])
    labels = [row.label for row in shown]
    assert len(labels) == 23
    assert labels == [row.label for row in rows if row.label in labels]
    assert {*(row.label for row in rows[:3]), "v00", "v01", "v02", "v58", "v59", "v49", "v48", "v20", "v30"} <= {
        *labels
    }
    assert shown_rows(rows[:24], [Panel("one", {"": points})]) == rows[:24]
    figure = draw(rows, [Panel("one", {"": points}), Panel("two", {"a": turned})])
    others = [points[row.label][0] for row in rows if row.label not in labels]
    first = [line.get_xydata() for line in figure.axes[0].get_lines() if line.get_color() == NEUTRAL]
    assert [ends[:2, 0].tolist() for ends in first] == [[min(others), max(others)], [np.median(others)]]


def test_values_are_averaged_over_seeds_of_datasets():
    one = Explanation("x", MEANING, {"documents": {"a": {(0, "s"): 1.0, (0, "t"): 3.0, (1, "s"): 5.0}}})
    assert one.by_seed("documents", "a") == [2.0, 5.0]
    assert one.mean("documents", "a") == 3.5
    assert one.mean("documents", "b") is None


def test_the_gain_by_the_backbones_rank_is_that_of_the_queries_of_each_rank(tmp_path):
    """Query n finds the documents n, n + 1 and n + 2 modulo 10 under the backbone."""
    folder = ExperimentFolder(make_experiment(tmp_path / "x", Plan(effects={"linear": 0.0, "b": 0.0}, queries=40)))
    # Relevant at rank 1, 2 or 3, or not found; the judgement of a document that is not relevant does not count.
    place = [0, 1, 2, 5]
    lines = [f"q{n} 0 d{(n + place[n % 4]) % 10} 1\nq{n} 0 d{n % 10} {int(n % 4 == 0)}\n" for n in range(40)]
    write_text(folder.qrels("pydocs"), "".join(lines))
    expected = {"at rank 1": (10, 0.25), "at ranks 2 to 10": (20, -0.125), "not found": (10, 0.0)}
    gains = [0.25, -0.125, -0.125, 0.0]
    for seed in (0, 1, 2):
        base, other = (
            next(folder.path.glob(f"trials/{name}-*/seed-{seed}/eval/pydocs.json")) for name in ("linear", "b")
        )
        scores = {f"q{n}": 0.5 for n in range(40)}
        moved = {query: score + gains[int(query[1:]) % 4] for query, score in scores.items()}
        for file, values in ((base, scores), (other, moved)):
            record = EvaluationRecord.read(file)
            record.replace(measures=dict.fromkeys(record.measures, values)).write(file)
    (split,) = splits(build_leaderboard(load_experiment(folder.path)))
    assert split.name == "gain-backbone-rank"
    found = {band.name: (band.queries, band.differences["b"][0]) for band in split.bands}
    assert found == {name: (count, pytest.approx(gain, abs=1e-9)) for name, (count, gain) in expected.items()}


@pytest.mark.parametrize(
    ("name", "bands"),
    [
        ("query-length", {"1": 10, "2": 10, "3": 10, "4": 10}),
        ("document-length", {"10 to 19": 10, "20 to 29": 10, "30 to 39": 10, "40 to 49": 10}),
        ("relevant", {"1": 20, "2": 20}),
        ("training-frequency", {"0%": 20, "50%": 8, "100%": 12}),
    ],
)
def test_the_queries_of_each_band(tmp_path, name, bands):
    facts = {
        f"q{n}": fact(n).replace(relevant=1 + n % 2, in_training=0.0 if n < 20 else 0.5 if n < 28 else 1.0)
        for n in range(40)
    }
    plan = Plan(effects={"linear": 0.0, "b": 0.0}, queries=40)
    board = build_leaderboard(load_experiment(explained(make_experiment(tmp_path / "x", plan), facts=facts)))
    split = next(one for one in splits(board) if one.name == f"gain-{name}")
    assert {band.name: band.queries for band in split.bands} == bands
    # The mean over bands, weighted by their queries, is the difference on all queries.
    means = {row.label: row.mean("nDCG@10") for row in board.rows}
    total = sum(band.queries * band.differences["b"][0] for band in split.bands) / 40
    assert total == pytest.approx(means["b"] - means["linear"], abs=1e-12)
