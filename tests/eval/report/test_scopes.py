"""What the report says in two scopes, and what it says of looks, trials that went astray and the winner's luck."""

import io
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from eval.report import write_report
from eval.report.answer import answer, notes
from eval.report.certainty import confirmation, luck
from eval.report.columns import board_columns
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from eval.report.words import verdict_text
from eval.verdicts import decide, judge
from experiment.config.load import load_config
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import EvaluationRecord, LookRecord, RoundsRecord
from tests.eval.report.factory import Plan, make_experiment

CERTAIN_HERE = Plan(effects={"linear": 0.0, "a": 0.025, "b": 0.0}, seeds=tuple(range(8)), query_sd=0.14, noise_sd=0.02)


def edit(folder, **sections):
    """Set sections of experiment.yaml."""
    path = ExperimentFolder(folder).experiment_yaml
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections, sort_keys=False))
    return folder


def board_of(folder, group="shared"):
    experiment = load_experiment(folder)
    trials = [replace(one, record=one.record.replace(start_group=group)) for one in experiment.trials]
    return build_leaderboard(replace(experiment, trials=tuple(trials)))


def verdict_of(board, label):
    return next(row.verdict for row in board.rows if row.label == label)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("scopes") / "x", CERTAIN_HERE, random=2)


def test_certain_on_these_queries_and_open_for_new_ones_is_said_in_one_sentence(folder):
    board = board_of(folder)
    verdict = verdict_of(board, "a")
    assert (verdict.these_queries.word, verdict.new_queries.word) == ("better", "no difference shown")
    here, new = verdict.these_queries, verdict.new_queries
    assert answer(board) == (
        f"a gains {100 * here.difference:.2f} [{100 * here.low:.2f}, {100 * here.high:.2f}] points of nDCG@10 over "
        "linear on these 60 queries (pydocs), ahead in 8 of 8 seeds; whether it holds for new queries is not shown "
        f"[\N{MINUS SIGN}{-100 * new.low:.2f}, +{100 * new.high:.2f}]; about 1,100 queries would show it. "
        "It folds to one matrix, so it costs nothing extra after training. 2 variants are better than linear."
    )
    assert verdict_text(verdict, None) == "better on these queries; no difference shown for new ones"


def test_the_two_scopes_stand_apart_in_every_format(folder):
    text = io.StringIO()
    page = write_report(folder, Console(file=text, width=80))
    verdict = verdict_of(build_leaderboard(load_experiment(folder)), "a")
    new = f"[\N{MINUS SIGN}{-100 * verdict.new_queries.low:.2f}, +{100 * verdict.new_queries.high:.2f}]"
    here = f"[+{100 * verdict.these_queries.low:.2f}, +{100 * verdict.these_queries.high:.2f}]"
    for shown in (page.read_text(), page.with_suffix(".md").read_text().replace("\\", ""), text.getvalue()):
        assert here in shown
        assert new in shown
    value = json.loads(page.with_suffix(".json").read_text())
    stored = next(row for row in value["rows"] if row["label"] == "a")
    assert stored["verdict"]["these_queries"]["low"] == verdict.these_queries.low
    assert stored["verdict"]["new_queries"]["low"] == stored["cells"]["low"] == verdict.new_queries.low
    assert stored["cells"]["these_verdict"] == "better"
    lines = page.read_text().split("<tr ")
    cells = next(line for line in lines if 'data-value="a"' in line)
    assert 'class="number difference better"' in cells
    assert 'class="number new_queries open"' in cells


def test_a_start_that_is_not_shared_pairs_nothing(folder):
    board = board_of(folder, group=None)
    assert verdict_of(board, "a").ahead is None
    assert "with 8 seeds" in answer(board)
    column = next(one for one in board_columns(board, "html") if one.name == "ahead")
    assert {column.text(row) for row in board.rows} == {""}


def test_two_fixed_models_get_the_verdict_that_exists_for_them(tmp_path):
    board = build_leaderboard(load_experiment(make_experiment(tmp_path / "x", replace(CERTAIN_HERE, seeds=(0,)))))
    assert verdict_text(verdict_of(board, "a"), None).endswith(", for these two models")
    assert answer(board).startswith("These models, one seed each: ")


def test_equivalent_is_a_verdict_with_its_resolution(tmp_path):
    plan = Plan(effects={"linear": 0.0, "a": 0.0}, seeds=tuple(range(8)), query_sd=0.0, noise_sd=0.01, queries=200)
    folder = edit(make_experiment(tmp_path / "x", plan), question={"resolution": 1.0, "seeds": [3, 20]})
    board = build_leaderboard(load_experiment(folder))
    assert verdict_text(verdict_of(board, "a"), board.resolution) == "equivalent within 1.0 point, also for new queries"
    assert answer(board).startswith("Every variant is equivalent within 1.0 point")
    page = write_report(folder)
    assert "equivalent within 1.0 point" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["resolution"] == 0.01
    assert "equivalent within 1.0 point" in page.with_suffix(".md").read_text()


def test_an_undecided_variant_says_what_it_would_take(tmp_path):
    plan = Plan(effects={"linear": 0.0, "a": 0.004}, seed_sd=0.01, queries=100)
    folder = edit(make_experiment(tmp_path / "x", plan), question={"resolution": 1.0, "seeds": [3, 20]})
    board = build_leaderboard(load_experiment(folder))
    verdict = verdict_of(board, "a")
    assert verdict.design.seeds_needed(0.01, new_queries=False) is None
    said = " ".join(notes(board))
    assert (
        "a: undecided on these queries after 3 seeds; detecting a difference of 1.0 point takes more than 100 seeds"
        in said
    )
    assert "100 queries cannot show equivalence within 1.0 point" in said


def test_looks_of_the_past_are_accounted_for(tmp_path):
    """A difference that a single look would call is not called after several."""
    plan = Plan(effects={"linear": 0.0, "a": 0.004}, seeds=tuple(range(8)), query_sd=0.0, noise_sd=0.01)
    folder = make_experiment(tmp_path / "x", plan, random=4)
    alone = build_leaderboard(load_experiment(folder))
    looks = [{"linear": count, "a": count} for count in (3, 5)]
    record = RoundsRecord(
        trained={label: list(range(5)) for label in ("linear", "a")},
        looks=[LookRecord(seeds=look, states={}) for look in looks],
        done=True,
    )
    record.write(ExperimentFolder(folder).rounds_json)
    board = build_leaderboard(load_experiment(folder))
    for new_queries, scope in ((False, "these_queries"), (True, "new_queries")):
        decision = decide(board.scores, "linear", [*looks, {"linear": 8, "a": 8}], new_queries=new_queries)["a"]
        found = getattr(verdict_of(board, "a"), scope)
        assert (found.low, found.high, found.adjusted_p) == (decision.low, decision.high, decision.adjusted_p)
        single = getattr(verdict_of(alone, "a"), scope)
        assert found.high - found.low > single.high - single.low
    assert any(note.startswith("The verdicts were read 2 times") for note in notes(board))


def test_a_trial_that_went_astray_is_named_and_verdicts_are_given_without_it(tmp_path):
    plan = Plan(effects={"linear": 0.0, "a": 0.02, "b": 0.0}, seeds=tuple(range(8)), query_sd=0.01, noise_sd=0.02)
    folder = make_experiment(tmp_path / "x", plan)
    for trial in ExperimentFolder(folder).trials():
        if (trial.read_trial().label, trial.read_trial().seed) == ("a", 4):
            record = EvaluationRecord.read(trial.eval_json("pydocs"))
            fallen = {name: {query: score / 2 for query, score in one.items()} for name, one in record.measures.items()}
            record.replace(measures=fallen).write(trial.eval_json("pydocs"))
    board = build_leaderboard(load_experiment(folder))
    (one,) = board.astray
    assert (one.variant, one.seed) == ("a", 4)
    said = notes(board)
    assert any(f"a: seed 4 went astray. It scores {100 * one.score:.2f}" in note for note in said)
    kept = {label: scores.without([4] if label == "a" else []) for label, scores in board.scores.items()}
    assert board.without["a"] == judge(kept, "linear")["a"]
    assert any(note.startswith("Without that trial, a would be better on these queries +") for note in said)
    assert "astray: a, seed 4" in write_report(folder).read_text()


def test_the_winners_luck_is_said_with_the_commands_that_confirm_it(folder):
    board = build_leaderboard(load_experiment(folder))
    best = board.winner
    assert best.name == "a"
    assert 0 < board.winner_here.shrunk < best.difference
    assert f"+{100 * best.difference:.2f} was found." in luck(board)
    assert f"the estimate is +{100 * board.winner_here.shrunk:.2f} on these queries and 0.00 for new ones" in luck(
        board
    )
    train, evaluate = confirmation(board).splitlines()
    words = shlex.split(train)
    assert words[:3] == ["python", "-m", "train"]
    assert "seeds=[8, 9, 10, 11, 12, 13, 14, 15]" in words
    assert shlex.split(evaluate)[2:] == ["eval", *words[3:]]


def test_a_winner_without_luck_is_not_said_to_be_lucky_but_can_be_confirmed(folder):
    board = build_leaderboard(load_experiment(folder))
    sure = replace(board.winner, shrunk=board.winner.difference)
    sure_board = replace(board, winner=sure, winner_here=sure)
    assert luck(sure_board) == ""
    assert confirmation(sure_board) == confirmation(board) != ""


def test_a_winner_that_is_equivalent_needs_no_confirming_command(tmp_path):
    close = replace(CERTAIN_HERE, effects={"linear": 0.0, "a": 0.024, "b": 0.0})
    asked = edit(make_experiment(tmp_path / "asked", close), question={"resolution": 20.0, "seeds": [8, 8]})
    board = build_leaderboard(load_experiment(asked))
    assert board.winner.difference > 0
    assert verdict_of(board, board.winner.name).these_queries.word == "equivalent"
    assert luck(board) == confirmation(board) == ""


def test_a_race_needs_no_confirming_command(folder, tmp_path):
    """``python -m answer`` confirms its winner, in the folder that the command would write."""
    raced = shutil.copytree(folder, tmp_path / "raced")
    edit(raced, question={"resolution": 1.0, "seeds": [3, 8], "race": True})
    board = build_leaderboard(load_experiment(raced))
    assert luck(board)
    assert confirmation(board) == ""


def test_the_confirming_command_is_a_valid_configuration(tmp_path):
    labels = ["linear", 'ffn(activation="identity", depth=2)', "residual(inner=glu())"]
    effects = dict(zip(labels, (0.0, 0.05, 0.01), strict=True))
    folder = edit(
        make_experiment(tmp_path / "x", Plan(effects=effects)),
        eval={"datasets": ["pydocs"]}, train={"data": {"source": "pydocs"}}, model={},
    )  # fmt: skip
    train, _ = confirmation(build_leaderboard(load_experiment(folder))).splitlines()
    path, *overrides = shlex.split(train)[3:]
    config = load_config(Path(path), overrides)
    assert [str(spec) for spec in config.heads.variants] == labels[:2]
    assert config.seeds == (3, 4, 5, 6, 7)
