"""Results that travel: to mteb and ranx, read by their own readers, and from them into a leaderboard."""

import importlib.util
import json

import pytest

from eval.__main__ import main
from eval.export import export_results
from eval.foreign import load_foreign, mteb_name
from eval.report.compare import merge_experiments
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.runs import write_qrels
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import EvaluationRecord
from projheads.errors import ProjheadsError
from tests.eval.report.factory import Plan, make_experiment

PLAN = Plan(effects={"linear": 0.0, "glu": 0.02}, datasets=("scifact", "my set"), queries=30)


@pytest.fixture
def folder(tmp_path):
    """An experiment on a data set that mteb knows and on one that it does not, with judgements."""
    made = make_experiment(tmp_path / "one", PLAN)
    sources = {"scifact": "beir:scifact", "my set": "data/my"}
    for path in made.glob("*/*/*/eval/*.json"):
        record = EvaluationRecord.read(path)
        dataset = record.dataset.replace(source=sources[record.dataset.name])
        record.replace(dataset=dataset).write(path)
    qrels = {f"q{i}": {f"d{i % 10}": 2, f"d{(i + 3) % 10}": 1} for i in range(PLAN.queries)}
    for name in PLAN.datasets:
        write_qrels(ExperimentFolder(made).qrels(name), qrels)
    return made


def run_of(shift):
    """A run that finds the document of grade 2 at rank ``shift`` + 1."""
    return {f"q{i}": {f"d{(i - shift + k) % 10}": 10.0 - k for k in range(5)} for i in range(PLAN.queries)}


def trec(run):
    return "".join(f"{q} Q0 {d} 0 {score} theirs\n" for q, found in run.items() for d, score in found.items())


def board_with(folder, *paths):
    first = load_experiment(folder)
    return build_leaderboard(merge_experiments([folder], [load_foreign(path, first) for path in paths]))


@pytest.mark.skipif(importlib.util.find_spec("mteb") is None, reason="mteb is not installed")
def test_mteb_reads_what_is_exported(folder, tmp_path):
    from mteb.cache import ResultCache
    from mteb.results import TaskResult

    written = export_results(folder, tmp_path / "cache", "mteb")
    means = {
        (path.parts[-4], path.parts[-3], path.stem): EvaluationRecord.read(path).means
        for path in folder.glob("trials/*/*/eval/*.json")
    }
    results = [TaskResult.from_disk(path) for path in written if path.name != "model_meta.json"]
    assert {one.task_name for one in results} == {"SciFact", "my set"}
    scores = sorted(one.get_score() for one in results if one.task_name == "SciFact")
    references = [EvaluationRecord.read(path).means for path in folder.glob("references/*/*/eval/scifact.json")]
    expected = [value for key, value in means.items() if key[2] == "scifact"] + references
    assert scores == pytest.approx(sorted(value["nDCG@10"] for value in expected))
    known = next(one for one in results if one.task_name == "SciFact")
    assert known.task.metadata.name == "SciFact"
    assert known.scores["test"][0].keys() >= {"ndcg_at_10", "recall_at_100", "mrr_at_10"}
    loaded = ResultCache(tmp_path / "cache").load_results(include_remote=False)
    assert len(loaded.model_results) == 6 + 5
    assert {one.model_name for one in loaded.model_results} >= {"one/glu seed 2", "one/bm25 seed 0"}
    # A result that mteb wrote itself, read back.
    (tmp_path / "theirs").mkdir()
    known.to_disk(tmp_path / "theirs" / "SciFact.json")
    row = next(row for row in board_with(folder, tmp_path / "theirs").references if row.label == "theirs")
    assert row.mean("nDCG@10") == pytest.approx(known.get_score())


def test_ranx_reads_what_is_exported(folder, tmp_path):
    ranx = pytest.importorskip("ranx")
    export_results(folder, tmp_path / "ranx", "ranx")
    qrels = ranx.Qrels.from_file(str(tmp_path / "ranx" / "scifact" / "qrels.json"))
    run = ranx.Run.from_file(str(tmp_path / "ranx" / "scifact" / "glu-seed-0.json"))
    assert run.to_dict()["q0"] == {"d0": 10.0, "d1": 9.0, "d2": 8.0}
    assert 0 < ranx.evaluate(qrels, run, "ndcg@10") < 1


@pytest.mark.parametrize("form", ["trec", "ranx", "predictions"])
def test_a_run_of_anybody_has_a_row_with_a_verdict_per_query(folder, tmp_path, form):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in ("scifact", "my set"):
        if form == "trec":
            (theirs / f"{name}.trec").write_text(trec(run_of(1)))
        elif form == "ranx":
            (theirs / f"{name}.json").write_text(json.dumps(run_of(1)))
        else:
            task = {"scifact": "SciFact"}.get(name, name)
            meta = {"model_name": "theirs", "revision": "1"}
            value = {"mteb_model_meta": meta, "default": {"test": run_of(1)}}
            (theirs / f"{task}_predictions.json").write_text(json.dumps(value))
    board = board_with(folder, theirs)
    row = next(row for row in board.rows if row.label == "theirs")
    ir_measures = pytest.importorskip("ir_measures")
    grades = {f"q{i}": {f"d{i % 10}": 2, f"d{(i + 3) % 10}": 1} for i in range(PLAN.queries)}
    expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], grades, run_of(1))[ir_measures.nDCG @ 10]
    assert row.mean("nDCG@10") == pytest.approx(expected)
    assert row.costs is None
    assert row.kind == "variant"
    assert board.baseline == "one: linear"
    assert board.scores["theirs"].tables[0].shape == (1, 30)


def test_a_run_and_a_model_of_one_seed_get_the_verdict_of_two_fixed_models(tmp_path):
    folder = make_experiment(
        tmp_path / "models", Plan(effects={"linear": 0.0}, datasets=("nq",), queries=30, seeds=(0,))
    )
    grades = {f"q{i}": {f"d{i % 10}": 1} for i in range(30)}
    write_qrels(ExperimentFolder(folder).qrels("nq"), grades)
    (tmp_path / "nq.run").write_text(trec(run_of(0)))
    row = next(row for row in board_with(folder, tmp_path / "nq.run").rows if row.label == "nq")
    assert row.verdict.fixed
    assert row.verdict.new_queries.word == "better"
    assert row.mean("nDCG@10") == 1.0


def test_a_single_run_file_is_enough(folder, tmp_path, capsys):
    (tmp_path / "scifact.run").write_text(trec(run_of(0)))
    main(["compare", str(folder), str(tmp_path / "scifact.run"), "--output", str(tmp_path / "both")])
    value = json.loads((tmp_path / "both" / "leaderboard.json").read_text())
    row = next(row for row in value["rows"] if row["label"] == "scifact")
    assert row["mean"]["RR@10"] == 1.0
    assert "my set is left out" in " ".join(value["notes"])


def test_means_of_mteb_are_a_reference_row(folder, tmp_path):
    theirs = tmp_path / "them__model" / "abc"
    theirs.mkdir(parents=True)
    entry = {
        "ndcg_at_10": 0.61,
        "mrr_at_10": 0.5,
        "main_score": 0.61,
        "hf_subset": "default",
        "languages": ["eng-Latn"],
    }
    value = {"dataset_revision": "1", "task_name": "SciFact", "mteb_version": "2.0.0", "evaluation_time": 1.0}
    (theirs / "SciFact.json").write_text(json.dumps(value | {"scores": {"test": [entry]}}))
    (theirs / "model_meta.json").write_text(json.dumps({"name": "them/model", "revision": "abc"}))
    board = board_with(folder, theirs)
    row = next(row for row in board.references if row.label == "them/model")
    assert row.mean("nDCG@10") == pytest.approx(0.61)
    assert "no verdict" in row.about
    assert board.experiment.measures == ("nDCG@10", "RR@10")
    assert list(board.datasets) == ["scifact"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("scifact.json", "[]", "neither a run"),
        ("scifact.json", "{", "cannot be read as JSON"),
        ("scifact.json", '{"q0": [1]}', "must map documents to scores"),
        ("scifact.json", '{"q0": {"d1": NaN}}', "not a finite number"),
        (
            "other.json",
            '{"q0": {"d1": 1}}',
            "no results on a data set of one; name a file after one of: scifact, my set",
        ),
        ("scifact.run", "q0 Q0 d1", "6 columns"),
        ("SciFact.json", '{"task_name": "SciFact", "scores": {"test": []}}', "not a result of mteb"),
        ("SciFact.json", '{"mteb_model_meta": {}, "a": {"test": {}}, "b": {"test": {}}}', "2 subsets"),
    ],
)
def test_files_that_cannot_be_used_are_one_line(folder, tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ProjheadsError, match=words) as error:
        load_foreign(tmp_path / name, load_experiment(folder))
    assert "\n" not in str(error.value)


def test_runs_alone_are_refused(tmp_path, folder):
    (tmp_path / "scifact.run").write_text(trec(run_of(0)))
    with pytest.raises(ProjheadsError, match="at least one folder of an experiment"):
        main(["compare", str(tmp_path / "scifact.run")])
    with pytest.raises(ProjheadsError, match='unknown format "trec"'):
        export_results(folder, tmp_path / "x", "trec")


def test_names_of_measures():
    names = {
        "nDCG@10": "ndcg_at_10",
        "RR@10": "mrr_at_10",
        "R@100": "recall_at_100",
        "P(rel=2)@5": None,
        "NumRet": None,
    }
    assert {name: mteb_name(name) for name in names} == names
