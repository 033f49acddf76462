"""Collections of a group are searched separately and count as one data set, wherever data sets are averaged."""

import numpy as np
import pytest

from eval.report.model_table import print_models
from eval.report.queries import changed_queries, shown_variant
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.report.write import write_report
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import EvaluationRecord, TextsRecord
from tests.eval.report.factory import Plan, make_experiment, stand_in, write_eval

PARTS = {"forum-a": 10, "forum-b": 40, "forum-c": 25}
PLAN = Plan(effects={"linear": 0.0, "other": 0.04}, datasets=("scifact",), queries=20, references=("bm25",))


@pytest.fixture
def folder(tmp_path):
    """One data set separately, and three collections of unequal size that are one."""
    path, generator = make_experiment(tmp_path / "x", PLAN), np.random.default_rng(5)
    folder = ExperimentFolder(path)
    for place, files in enumerate([*folder.trials(), *folder.references()]):
        for part, queries in PARTS.items():
            write_eval(files, part, generator.uniform(0.3, 0.7, queries) + 0.01 * place, Plan(notes={"odd": 2}))
            record = EvaluationRecord.read(files.eval_json(part))
            record = record.replace(dataset=record.dataset.replace(group="forums", queries=queries))
            record.replace(linearised=stand_in(record, 0.01 * queries)).write(files.eval_json(part))
    return path


def part_means(folder, label, seed):
    """Means of the single collections, read from their files."""
    for files in ExperimentFolder(folder).trials():
        about = files.read_trial()
        if (about.label, about.seed) == (label, seed):
            return {
                name: np.mean(list(EvaluationRecord.read(files.eval_json(name)).measures["nDCG@10"].values()))
                for name in ("scifact", *PARTS)
            }
    raise AssertionError


def test_the_twelve_weigh_as_one_in_every_mean(folder):
    board = build_leaderboard(load_experiment(folder))
    assert set(board.datasets) == {"scifact", "forums"}
    for row in board.rows:
        for place, seed in enumerate(row.seeds):
            means = part_means(folder, row.label, seed)
            group = np.mean([means[part] for part in PARTS])
            assert row.scores["nDCG@10"]["forums"][place] == pytest.approx(group, abs=1e-12)
            assert row.by_seed("nDCG@10")[place] == pytest.approx((means["scifact"] + group) / 2, abs=1e-12)
    other, linear = ([part_means(folder, label, seed) for seed in PLAN.seeds] for label in ("other", "linear"))
    differences = [
        (a["scifact"] - b["scifact"] + np.mean([a[part] - b[part] for part in PARTS])) / 2
        for a, b in zip(other, linear, strict=True)
    ]
    verdict = next(row.verdict for row in board.rows if row.label == "other")
    assert verdict.difference == pytest.approx(np.mean(differences), abs=1e-12)


def test_the_scatter_over_queries_is_that_of_samples_within_the_collections(tmp_path):
    """The variance that the draw of queries adds, against the stratified formula, at one seed."""
    from eval.verdicts import Scores
    from eval.verdicts.variance import paired_difference

    generator = np.random.default_rng(0)
    tables = {part: generator.normal(0, 0.2, queries * 40) for part, queries in PARTS.items()}
    count, total = len(tables), sum(map(len, tables.values()))
    merged = np.concatenate([total / (count * len(table)) * table for table in tables.values()])
    stratified = sum(table.var(ddof=1) / len(table) for table in tables.values()) / count**2
    found = paired_difference(Scores((0,), (merged[None],)), Scores((0,), (np.zeros((1, len(merged))),)))
    assert found.mean == pytest.approx(np.mean([table.mean() for table in tables.values()]), abs=1e-12)
    assert found.standard_error**2 == pytest.approx(stratified, rel=0.02)


def test_what_the_group_is(folder):
    dataset = build_leaderboard(load_experiment(folder)).datasets["forums"]
    assert (dataset.queries, dataset.notes, dataset.documents) == (75, {"odd": 6}, 3 * 1234)
    assert len(dataset.hash) == 64
    for path in ExperimentFolder(folder).path.glob("*/*/*/eval/forum-b.json"):
        record = EvaluationRecord.read(path)
        record.replace(dataset=record.dataset.replace(hash="0" * 64)).write(path)
    assert build_leaderboard(load_experiment(folder)).datasets["forums"].hash != dataset.hash


def test_the_stand_in_of_a_group_scores_the_mean_of_its_collections(folder):
    for trial in load_experiment(folder).trials:
        found = trial.evaluations["forums"].record.linearised
        means = part_means(folder, trial.label, trial.seed)
        expected = np.mean([means[part] - 0.01 * queries for part, queries in PARTS.items()])
        assert found.means["nDCG@10"] == pytest.approx(expected, abs=1e-12)


def test_a_trial_that_lacks_a_part_does_not_count(folder):
    trial = ExperimentFolder(folder).trials()[0]
    trial.eval_json("forum-c").unlink()
    board = build_leaderboard(load_experiment(folder))
    failures = {row.label: row.failures for row in board.rows}
    about = trial.read_trial()
    assert failures[about.label] == ((about.seed, "not evaluated on forums"),)


def test_queries_of_a_group_are_shown_with_their_own_scores_texts_and_documents(folder):
    documents = {f"d{i}": f"text {i}" for i in range(10)}
    for part in PARTS:
        texts = TextsRecord(queries={f"q{i}": part for i in range(40)}, documents=documents)
        texts.write(ExperimentFolder(folder).texts_json(part))
    board = build_leaderboard(load_experiment(folder))
    row = shown_variant(board)
    changed = next(one for one in changed_queries(board, row) if one.dataset == "forums")
    for change in [*changed.gained, *changed.lost]:
        part, _, query = change.id.partition("/")
        scores = [
            EvaluationRecord.read(files.eval_json(part)).measures["nDCG@10"][query]
            for files in ExperimentFolder(folder).trials()
            if files.read_trial().label == row.label
        ]
        assert change.variant == pytest.approx(np.mean(scores), abs=1e-12)
        assert change.text == part
        assert change.variant_top[0].text.startswith("text ")


def test_the_report_and_the_table_show_one_data_set(folder, capsys):
    page = write_report(folder).read_text()
    assert "forums" in page
    assert "forum-a," not in page.replace("forum-a, forum-b, forum-c", "")
    print_models(folder)
    out = capsys.readouterr().out
    assert "mean of 2" in out
    assert "forum-a" not in out
