import math
import shutil
import statistics

import pytest

from eval.report import write_report
from eval.report.answer import answer, notes
from eval.report.reading import load_experiment
from eval.report.table import build_leaderboard
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import EvaluationRecord, ReferenceRecord
from tests.eval.report.factory import Plan, make_experiment
from tests.eval.report.test_scopes import edit


def board_of(path, plan, random=0):
    return build_leaderboard(load_experiment(make_experiment(path, plan, random=random)))


def test_means_spreads_and_differences_equal_those_computed_by_hand(tmp_path):
    datasets = ("pydocs", "scifact")
    board = board_of(tmp_path / "x", Plan(datasets=datasets, queries=7))
    by_label = {}
    for files in ExperimentFolder(tmp_path / "x").trials():
        trial = files.read_trial()
        means = []
        for name in datasets:
            record = EvaluationRecord.read(files.eval_json(name))
            means.append(statistics.fmean(record.measures["nDCG@10"].values()))
        by_label.setdefault(trial.label, {})[trial.seed] = statistics.fmean(means)
    assert {row.label for row in board.rows} == set(by_label)
    for row in board.rows:
        scores = [by_label[row.label][seed] for seed in (0, 1, 2)]
        assert row.mean("nDCG@10") == pytest.approx(statistics.fmean(scores), abs=1e-12)
        assert row.spread("nDCG@10") == pytest.approx(statistics.stdev(scores), abs=1e-12)
        if row.verdict is not None:
            expected = statistics.fmean(scores) - statistics.fmean(by_label["linear"].values())
            assert row.verdict.difference == pytest.approx(expected, abs=1e-12)
    means = [row.mean("nDCG@10") for row in board.rows]
    assert means == sorted(means, reverse=True)


def test_a_clear_winner_is_named_in_the_answer_with_its_cost(tmp_path):
    board = board_of(tmp_path / "x", Plan(effects={"linear": 0.0, "ffn(depth=3)": 0.0, "wide": 0.08}, queries=200))
    verdict = next(row.verdict for row in board.rows if row.label == "wide")
    assert verdict.word == "better"
    text = answer(board)
    assert text.startswith("wide gains ")
    assert "points of nDCG@10 over linear on these 200 queries (pydocs), with 3 seeds; it also holds for new" in text
    assert text.endswith("It takes 3.0x the multiply-adds of linear.")


def test_without_any_difference_the_answer_says_what_could_have_been_shown(tmp_path):
    board = board_of(tmp_path / "x", Plan(effects={"linear": 0.0, "a": 0.0, "b": 0.0}, queries=100))
    assert [row.verdict.word for row in board.rows if row.verdict] == ["no difference shown"] * 2
    least, largest = sorted(row.verdict.smallest_shown for row in board.rows if row.verdict)
    assert f"{100 * least:.1f}" != f"{100 * largest:.1f}"
    here = sorted(row.verdict.smallest_shown_here for row in board.rows if row.verdict)
    assert answer(board) == (
        "No variant is distinguishable from linear on these 100 queries (pydocs) with 3 seeds; the experiment could "
        f"have detected {100 * here[0]:.1f} to {100 * here[1]:.1f} points on these queries, "
        f"{100 * least:.1f} to {100 * largest:.1f} on new ones."
    )


def test_one_seed_gives_no_verdict_and_says_why(tmp_path):
    board = board_of(tmp_path / "x", Plan(seeds=(0,), effects={"linear": 0.0, "a": 0.3}))
    assert next(row.verdict.word for row in board.rows if row.verdict) == "too few seeds"
    assert answer(board).startswith("These models, one seed each: a scores higher than linear, +")
    assert "Whether its head is the reason takes 3 seeds of each" in answer(board)
    assert any(note.startswith("One seed: the intervals cover the choice of queries") for note in notes(board))
    assert board.rows[0].spread("nDCG@10") is None


def test_failed_trials_stand_in_the_table_with_their_reason(tmp_path):
    plan = Plan(failed={("ffn(depth=2)", 1): "the loss was NaN at step 12"})
    board = board_of(tmp_path / "x", plan)
    row = next(row for row in board.rows if row.label == "ffn(depth=2)")
    assert row.failures == ((1, "the loss was NaN at step 12"),)
    assert row.seeds == (0, 2)
    assert row.verdict.word == "too few seeds"
    assert "ffn(depth=2): seed 1 does not count: the loss was NaN at step 12" in notes(board)
    assert row.verdict.difference == pytest.approx(row.mean("nDCG@10") - board.baseline_row.mean("nDCG@10"))


def test_trials_that_fail_for_one_reason_share_a_note(tmp_path):
    failed = {("ffn(depth=2)", seed): "out of memory" for seed in (0, 1, 2)}
    board = board_of(tmp_path / "x", Plan(failed=failed))
    assert "ffn(depth=2): seeds 0, 1 and 2 do not count: out of memory" in notes(board)


def test_a_variant_of_which_every_trial_failed_stays_in_the_table(tmp_path):
    failed = {("ffn(depth=2)", seed): "out of memory" for seed in (0, 1, 2)}
    folder = make_experiment(tmp_path / "x", Plan(failed=failed))
    row = build_leaderboard(load_experiment(folder)).rows[-1]
    assert (row.label, row.seeds, row.mean("nDCG@10"), row.costs) == ("ffn(depth=2)", (), None, None)
    write_report(folder)
    assert "3 missing" in (folder / "report" / "leaderboard.md").read_text()


def test_a_failed_baseline_is_said_and_not_fatal(tmp_path):
    failed = {("linear", seed): "out of memory" for seed in (0, 1, 2)}
    folder = make_experiment(tmp_path / "x", Plan(failed=failed))
    board = build_leaderboard(load_experiment(folder))
    assert answer(board) == "Nothing can be compared with linear: none of its trials counts."
    write_report(folder)


def test_an_evaluation_that_is_missing_takes_its_trial_out(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(datasets=("pydocs", "scifact")))
    next(folder.glob("trials/linear*/seed-2/eval/scifact.json")).unlink()
    board = build_leaderboard(load_experiment(folder))
    assert board.baseline_row.failures == ((2, "not evaluated on scifact"),)


def test_a_baseline_below_its_own_initialisation_is_noted(tmp_path):
    plan = Plan(effects={"linear": -0.2, "a": -0.2}, query_sd=0.0, noise_sd=0.01)
    text = " ".join(notes(board_of(tmp_path / "x", plan)))
    assert "The trained linear does not score above its own initialisation" in text
    assert "above the backbone's token states without a head" in text


def test_each_point_of_the_axes_is_held_against_its_own_start(tmp_path):
    effects = {"linear": -0.2, "a": 0.3, "b": -0.2}
    folder = make_experiment(tmp_path / "x", Plan(effects=effects, query_sd=0.0, noise_sd=0.01))
    widths, experiment = {"linear": 4, "a": 8, "b": 16}, ExperimentFolder(folder)
    for trial in experiment.trials():
        record = trial.read_trial()
        axes = {"heads.out_features": widths[record.label], "epochs": 1}
        record.replace(label="linear", axes=axes, is_baseline=True).write(trial.trial_json)
    for reference in experiment.references():  # the backbone's row is the same at all points
        record = ReferenceRecord.read(reference.reference_json)
        if record.name == "untrained":
            record.replace(axes={"heads.out_features": 16}).write(reference.reference_json)
    edit(folder, axes={"heads.out_features": [4, 8, 16], "epochs": [1]})
    text = " ".join(notes(build_leaderboard(load_experiment(folder))))
    assert "At out_features=16, epochs=1, the trained linear does not score above its own initialisation" in text
    assert "At 2 of 3 settings of the axes, the trained linear does not score above the backbone's" in text


def test_a_reference_row_from_before_the_experiment_had_axes_or_from_when_it_had_them_is_left_out(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(references=("bm25", "untrained"), queries=20))
    shutil.copytree(folder / "references" / "untrained", folder / "references" / "untrained@heads.out_features=4")
    for reference in ExperimentFolder(folder).references():
        if "@" in reference.path.parent.name:
            record = ReferenceRecord.read(reference.reference_json)
            record.replace(axes={"heads.out_features": 4}).write(reference.reference_json)

    def labels():
        return {row.label for row in build_leaderboard(load_experiment(folder)).references}

    assert labels() == {"bm25", "untrained"}
    edit(folder, axes={"heads.out_features": [4]})
    assert labels() == {"bm25", "untrained @ out_features=4"}


def test_a_start_that_was_evaluated_once_for_all_seeds_lacks_nothing(tmp_path):
    folder = make_experiment(tmp_path / "x", Plan(references=("untrained",), queries=20))
    first, *others = ExperimentFolder(folder).references()
    same = ReferenceRecord.read(first.reference_json).weights_hash or "same"
    for reference in (first, *others):
        ReferenceRecord.read(reference.reference_json).replace(weights_hash=same).write(reference.reference_json)
    for reference in others:
        shutil.rmtree(reference.evaluations)
    (row,) = build_leaderboard(load_experiment(folder)).references
    assert (row.label, len(row.seeds), row.failures) == ("untrained", 1, ())
    record = ReferenceRecord.read(others[0].reference_json)
    record.replace(weights_hash="different").write(others[0].reference_json)
    (row,) = build_leaderboard(load_experiment(folder)).references
    assert len(row.failures) == 1


def test_variants_that_are_clipped_unevenly_are_noted(tmp_path):
    board = board_of(tmp_path / "x", Plan(effects={"linear": 0.0, "a": 0.0}, queries=20))
    assert {row.label: row.costs.clipped for row in board.rows} == {"linear": 0.25, "a": 0.75}
    assert any("clipped in 25% to 75% of the steps" in note for note in notes(board))
    alike = board_of(tmp_path / "y", Plan(effects={"linear": 0.0}, queries=20))
    assert not any("clipped" in note for note in notes(alike))


def test_notes_count_what_is_odd_in_the_data(tmp_path):
    assert "pydocs: 2 empty documents and 12 documents longer than document_length=64." in notes(
        board_of(tmp_path / "x", Plan())
    )


def test_encoded_ids_are_noted_with_the_judgements_that_match_them(tmp_path):
    said = [
        notes(board_of(tmp_path / str(count), Plan(queries=20, notes={"ids_with_spaces": count}))) for count in (0, 3)
    ]
    found = ["qrels/pydocs.qrels" in " ".join(one) for one in said]
    assert found == [False, True]


def test_intervals_narrow_with_more_queries(tmp_path):
    widths = []
    for queries in (20, 2000):
        board = board_of(
            tmp_path / str(queries), Plan(effects={"linear": 0.0, "a": 0.0}, queries=queries, seed_sd=1e-6)
        )
        verdict = next(row.verdict for row in board.rows if row.verdict)
        widths.append(verdict.new_queries.high - verdict.new_queries.low)
    assert widths[1] < widths[0] / 3
    assert all(math.isfinite(width) for width in widths)
