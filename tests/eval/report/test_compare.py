import io

import pytest
from rich.console import Console

from eval.__main__ import main
from eval.report import compare
from eval.report.compare import merge_experiments
from eval.report.plan import plan_value, print_plan
from eval.report.queries import changed_queries, shown_variant
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import EvaluationRecord, TrialRecord
from projheads.errors import ProjheadsError
from tests.eval.report.factory import Plan, make_experiment, without

ONE = Plan(effects={"linear": 0.0, "a": 0.01}, datasets=("pydocs", "scifact"), queries=30)
TWO = Plan(effects={"linear": 0.0, "b": 0.02}, datasets=("pydocs", "nfcorpus"), queries=30)


def rewrite(folder, change):
    for path in folder.glob("*/*/*/eval/*.json"):
        change(EvaluationRecord.read(path)).write(path)


@pytest.fixture
def folders(tmp_path):
    return [make_experiment(tmp_path / "one", ONE), make_experiment(tmp_path / "two", TWO, random=1)]


def test_two_experiments_become_one_with_the_first_ones_baseline(folders):
    board = build_leaderboard(merge_experiments(folders))
    assert {row.label for row in board.rows} == {"one: linear", "one: a", "two: linear", "two: b"}
    assert board.baseline == "one: linear"
    assert list(board.datasets) == ["pydocs"]
    assert board.experiment.remarks == (
        "scifact is left out: two has no evaluation on it",
        "nfcorpus is left out: one has no evaluation on it",
    )
    assert all(row.verdict.seeds == 3 for row in board.rows if row.verdict)


def test_the_point_of_the_axes_is_named_once(folders):
    for file in folders[1].glob("trials/*/*/trial.json"):
        TrialRecord.read(file).replace(axes={"heads.init": "pca"}).write(file)
    labels = {trial.label for trial in merge_experiments(folders).trials}
    assert labels == {"one: linear", "one: a", "two: linear @ init=pca", "two: b @ init=pca"}


def test_the_comparison_is_written_and_printed_with_what_was_left_out(folders, tmp_path):
    text = io.StringIO()
    page = compare(folders, tmp_path / "out", Console(file=text, width=80))
    assert page == tmp_path / "out" / "leaderboard.html"
    assert "scifact is left out" in text.getvalue()
    assert "scifact is left out" in page.read_text()
    assert "python -m eval compare" in page.read_text()


def test_another_content_of_a_data_set_is_refused_with_the_reason(folders):
    rewrite(folders[1], lambda record: record.replace(dataset=record.dataset.replace(hash="other")))
    with pytest.raises(ProjheadsError, match="pydocs is left out: its content differs between one and two"):
        merge_experiments(folders)


def test_another_set_of_queries_is_refused_with_the_reason(folders):
    rewrite(folders[1], lambda record: record.replace(measures=without(record.measures, "q1")))
    with pytest.raises(ProjheadsError, match="scored on different queries of it"):
        merge_experiments(folders)


def test_another_measure_is_refused_with_the_reason(folders):
    rewrite(folders[1], lambda record: record.replace(measures={"RR@10": record.measures["RR@10"]}))
    with pytest.raises(ProjheadsError, match="was not scored with nDCG@10"):
        merge_experiments(folders)


@pytest.mark.parametrize("chosen", [[0], [0, 0], [0, 1, 0]])
def test_one_experiment_or_the_same_twice_is_refused(folders, chosen):
    with pytest.raises(ProjheadsError, match="at least two experiments, each listed once"):
        merge_experiments([folders[place] for place in chosen])


def test_experiments_of_one_name_are_told_apart_by_their_folders(tmp_path):
    folders = [make_experiment(tmp_path / side / "same", ONE, random=place) for place, side in enumerate("ab")]
    labels = {trial.label for trial in merge_experiments(folders).trials}
    assert f"{folders[0].as_posix()}: linear" in labels
    assert len(labels) == 4


def test_starts_of_one_name_are_not_paired_between_experiments(tmp_path):
    folders = [make_experiment(tmp_path / name, ONE) for name in "ab"]
    for folder in folders:
        for file in folder.glob("trials/*/*/trial.json"):
            TrialRecord.read(file).replace(start_group="shared").write(file)
    groups = {trial.record.start_group for trial in merge_experiments(folders).trials}
    assert groups == {"a: shared", "b: shared"}


def test_a_plan_says_what_other_sizes_could_show(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(queries=50, seeds=(0, 1, 2, 3)))
    text = io.StringIO()
    print_plan(folder, Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    design = build_leaderboard(load_experiment(folder)).design
    row = next(line.split() for line in lines if line.split()[:1] == ["4"])
    assert float(row[1]) == pytest.approx(100 * design.smallest_shown(4, new_queries=False), abs=0.005)
    assert float(row[3]) == pytest.approx(100 * design.smallest_shown(4), abs=0.005)
    assert sum(line.startswith("To detect") for line in lines) == 3
    (found,) = [one for one in plan_value(folder)["detectable"] if (one["seeds"], one["queries"]) == (4, 50)]
    assert found["difference"] == design.smallest_shown(4)


def test_a_plan_from_one_seed_is_refused(tmp_path):
    with pytest.raises(ProjheadsError, match="a plan needs at least two evaluated seeds"):
        print_plan(make_experiment(tmp_path / "x", Plan(seeds=(0,), queries=5)))


def test_the_commands_do_what_they_say(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main(["report", str(folders[0])])
    assert (folders[0] / "report/leaderboard.html").exists()
    assert "leaderboard.html" in capsys.readouterr().out
    main(["report", str(folders[0]), "--json"])
    assert capsys.readouterr().out == (folders[0] / "report/leaderboard.json").read_text()
    main(["plan", str(folders[0])])
    assert "80%" in capsys.readouterr().out
    main(["compare", *map(str, folders), "--output", str(tmp_path / "both")])
    assert (tmp_path / "both/leaderboard.json").exists()


def test_the_queries_that_changed_most_are_shown_with_their_texts(tmp_path):
    plan = Plan(effects={"linear": 0.0, "a": 0.05}, queries=40, texts={"query": "what is a head", "document": "a text"})
    folder = make_experiment(tmp_path / "x", plan)
    board = build_leaderboard(load_experiment(folder))
    row = shown_variant(board)
    (changed,) = changed_queries(board, row)
    differences = {
        query: sum(
            trial.evaluations["pydocs"].record.measures["nDCG@10"][query] * (1 if trial.label == "a" else -1) / 3
            for trial in board.experiment.trials
        )
        for query in board.queries["pydocs"]
    }
    expected = sorted(differences, key=differences.get)
    assert [query.id for query in changed.gained] == expected[::-1][:4]
    assert [query.id for query in changed.lost] == expected[:4]
    assert changed.up + changed.down + changed.same == 40
    first = changed.gained[0]
    assert first.variant - first.baseline == pytest.approx(differences[first.id])
    assert first.text == "what is a head"
    number = int(first.id[1:])
    assert [document.id for document in first.variant_top] == [f"d{(number + rank) % 10}" for rank in range(3)]
    assert first.variant_top[0].text == "a text"


def test_without_texts_and_run_files_queries_stand_by_their_ids(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(queries=10))
    for path in folder.glob("trials/*/*/eval/*.run"):
        path.unlink()
    board = build_leaderboard(load_experiment(folder))
    (changed,) = changed_queries(board, shown_variant(board))
    assert changed.gained[0].text == ""
    assert changed.gained[0].variant_top == ()


def test_a_changed_query_shows_the_seed_that_changed_most_with_relevant_documents_and_ranks(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(effects={"linear": 0.0, "a": 0.05}, queries=40))
    experiment = load_experiment(folder)
    runs = {(one.label, one.seed): one.evaluations["pydocs"].read_run() for one in experiment.trials}
    relevant = {query: ranking[1][0] for query, ranking in runs["linear", 0].items()}
    qrels = ExperimentFolder(folder).qrels("pydocs")
    qrels.parent.mkdir(parents=True)
    qrels.write_text("".join(f"{query} 0 {document} 1\n" for query, document in relevant.items()))
    board = build_leaderboard(load_experiment(folder))
    (changed,) = changed_queries(board, shown_variant(board))
    scores = {
        (one.label, one.seed): one.evaluations["pydocs"].record.measures["nDCG@10"] for one in board.experiment.trials
    }
    for sign, queries in ((1, changed.gained), (-1, changed.lost)):
        for query in queries:
            changes = {
                seed: sign * (scores["a", seed][query.id] - scores["linear", seed][query.id]) for seed in range(3)
            }
            assert query.shown.seed == max(changes, key=changes.get)
            assert sign * (query.shown.variant - query.shown.baseline) == pytest.approx(max(changes.values()))
            assert [one.seed for one in query.seeds] == [0, 1, 2]
            for document in (*query.baseline_top, *query.variant_top):
                assert document.relevant == (document.id == relevant[query.id])
            ranking = [document for document, _ in runs["a", query.shown.seed][query.id]]
            assert query.shown.variant_rank == ranking.index(relevant[query.id]) + 1


def test_a_comparison_names_the_settings_that_differ(tmp_path):
    folders = [make_experiment(tmp_path / name, Plan(queries=20)) for name in ("one", "two")]
    assert not any("differ in more" in line for line in merge_experiments(folders).remarks)
    file = folders[1] / "experiment.yaml"
    file.write_text(file.read_text().replace("document_length: 64", "document_length: 180"))
    remarks = merge_experiments(folders).remarks
    assert "The experiments differ in more than their heads: model.document_length: 64 (one), 180 (two)." in remarks
