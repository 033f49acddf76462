import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from eval.report import write_report
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from experiment.disk.records import EvaluationRecord
from tests.eval.report.factory import Plan, make_experiment

FORMS = {"pq16": (16, 0.02), "fp16": (256, 0.0), "int8": (132, 0.001)}


def board_of(folder):
    return build_leaderboard(load_experiment(folder))


def test_bytes_scores_and_changes_are_those_of_the_files(tmp_path):
    plan = Plan(datasets=("pydocs", "scifact"), queries=20, storage=FORMS)
    for row in board_of(make_experiment(tmp_path / "x", plan)).rows:
        assert [one.form for one in row.stored] == ["fp16", "int8", "pq16"]
        for one in row.stored:
            size, loss = FORMS[one.form]
            assert (one.bytes_per_vector, one.index_bytes) == (size, 2 * 1000 * size)
            assert one.score == pytest.approx(row.mean("nDCG@10") - loss)
            assert one.change == pytest.approx(-loss, abs=1e-12)
            # Every query changed alike, so only the resolution of 20 queries is left.
            assert np.mean(one.interval) == pytest.approx(-loss, abs=1e-9)
            assert 0 < one.interval[1] - one.interval[0] < 0.1


def test_a_form_that_some_trial_lacks_is_left_out(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(queries=5, storage=FORMS))
    path = next(folder.glob("trials/linear*/seed-1/eval/pydocs.json"))
    record = EvaluationRecord.read(path)
    record.replace(storage={name: form for name, form in record.storage.items() if name != "int8"}).write(path)
    forms = {row.label: [one.form for one in row.stored] for row in board_of(folder).rows}
    assert forms["linear"] == ["fp16", "pq16"]
    assert forms["ffn(depth=2)"] == ["fp16", "int8", "pq16"]


def test_forms_that_were_scored_by_another_measure_are_left_out(tmp_path):
    experiment = load_experiment(make_experiment(tmp_path / "x", Plan(queries=5, storage=FORMS)))
    board = build_leaderboard(replace(experiment, measures=("R@100",)))
    assert not any(row.stored for row in board.rows)


def test_the_interval_of_a_change_is_that_of_paired_scores(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(effects={"linear": 0.0}, queries=200, storage={"int8": (132, 0.0)}))
    generator = np.random.default_rng(0)
    for path in folder.glob("trials/*/*/eval/pydocs.json"):
        record = EvaluationRecord.read(path)
        form = record.storage["int8"]
        scores = {query: score + generator.normal(0, 0.01) for query, score in form.per_query.items()}
        record.replace(storage={"int8": form.replace(per_query=scores)}).write(path)
    (one,) = board_of(folder).rows[0].stored
    low, high = one.interval
    assert low < one.change < high
    assert high - low < 0.02


def test_every_format_shows_the_forms_and_the_page_draws_them(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(queries=10, storage=FORMS))
    report = write_report(folder).parent
    assert (report / "figures/storage.svg").exists()
    assert "| linear | int8 | 132 | 132.0 kB |" in (report / "leaderboard.md").read_text()
    line = next(csv.DictReader(io.StringIO((report / "leaderboard.csv").read_text())))
    assert float(line["index_bytes int8"]) == 132_000
    value = json.loads((report / "leaderboard.json").read_text())
    assert [one["form"] for one in value["rows"][0]["storage"]] == ["fp16", "int8", "pq16"]
    assert "Storage against quality" in (report / "leaderboard.html").read_text()


def test_without_stored_forms_nothing_is_shown(tmp_path):
    report = write_report(make_experiment(tmp_path / "x", Plan(queries=5))).parent
    assert not (report / "figures/storage.svg").exists()
    assert "Storage against quality" not in (report / "leaderboard.html").read_text()
