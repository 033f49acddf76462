"""Every record survives writing and reading, and every damaged file is one line that says what to do."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiment.disk.layout import TrialFolder
from experiment.disk.records import (
    CandidateRecall,
    EvaluationRecord,
    ReferenceRecord,
    TextsRecord,
    TrainLine,
    TrialRecord,
    read_train_lines,
)
from projheads.errors import ProjheadsError
from tests.eval.report.factory import Plan, evaluation_record, stand_in, sweep_record, trial_record

EVALUATION = evaluation_record(TrialFolder(Path("x")), "data", np.random.default_rng(0).random(50), Plan())
RECORDS = [
    trial_record("linear", 0, 0, None, sweep_record({0.001: [0.1, None], 0.01: [0.1, 0.2]})),
    trial_record("linear", 0, 0, "out of memory"),
    ReferenceRecord(name="untrained", description="the baseline before training", seed=3, weights_hash="0"),
    EVALUATION.replace(
        linearised=stand_in(EVALUATION, 0.01),
        index=EVALUATION.index.replace(candidate_recall=CandidateRecall(at=100, value=0.97, queries=20)),
    ),
    TextsRecord(queries={"q\n1": "\u00fc \u4e2d"}, documents={}),
]


def message(path, cls):
    with pytest.raises(ProjheadsError) as caught:
        cls.find(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_read_back_as_it_was_and_written_again_to_the_same_bytes(record, tmp_path):
    path = tmp_path / "a" / "record.json"
    record.write(path)
    written = path.read_bytes()
    assert type(record).read(path) == record
    type(record).read(path).write(path)
    assert path.read_bytes() == written
    assert json.loads(written)["schema_version"] == 1


def test_scores_are_read_to_the_last_bit(tmp_path):
    scores = np.random.default_rng(0).integers(0, 2**63, 20_000).view(np.float64)
    table = {str(place): float(score) for place, score in enumerate(scores) if np.isfinite(score)}
    record = EVALUATION.replace(measures={"nDCG@10": table}, storage={})
    record.write(tmp_path / "x.json")
    assert EvaluationRecord.read(tmp_path / "x.json").measures["nDCG@10"] == table


@pytest.mark.parametrize("cls", [TrialRecord, ReferenceRecord, EvaluationRecord])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{}", "has no "),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"schema_version": 1, "na', "not a JSON file"),
        (b"", "not a JSON file"),
        (b"\xff\xfe", "not a JSON file"),
        (b'{"schema_version": "1"}', "schema_version: must be a valid integer, not '1'"),
    ],
)
def test_a_damaged_file_is_one_line_that_says_what_to_do(cls, content, words, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    text = message(path, cls)
    assert text.startswith(words)
    assert "; delete it and rerun python -m " in text


@pytest.mark.parametrize("cls", [TrialRecord, ReferenceRecord, EvaluationRecord, TextsRecord])
def test_a_folder_in_place_of_a_file_is_said_and_a_missing_file_is_none(cls, tmp_path):
    assert "cannot be read (Is a directory); delete it" in message(tmp_path, cls)
    assert cls.find(tmp_path / "x.json") is None
    with pytest.raises(ProjheadsError, match="file not found; run python -m"):
        cls.read(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "three"}, "seed: must be a valid integer, not 'three'"),
        ({"sweep": {"measure": 1}}, "sweep.measure: must be a valid string, not 1"),
        ({"colour": "red"}, "has an unknown field colour"),
        ({"weights_hash": None}, "weights_hash: does not agree with the status finished"),
        ({"status": "running"}, "status: must be 'finished' or 'failed', not 'running'"),
        ({"schema_version": 2, "colour": "red"}, "schema version 2 is newer than this program's 1; update projheads"),
    ],
)
def test_a_wrong_field_is_named(change, words, tmp_path):
    path = tmp_path / "trial.json"
    path.write_text(json.dumps(trial_record("linear", 0, 0, None).model_dump() | change))
    assert message(path, TrialRecord).startswith(words)


def test_a_record_of_the_first_version_without_later_fields_is_read(tmp_path):
    later = {
        "head_files",
        "matryoshka",
        "sweep",
        "start_group",
        "checkpoint",
        "trainable",
        "backbone",
        "peak_memory_bytes",
    }
    record = trial_record("linear", 0, 0, None)
    path = tmp_path / "trial.json"
    path.write_text(json.dumps(record.model_dump(exclude=later)))
    assert TrialRecord.read(path).label == "linear"
    path.write_text(json.dumps(EVALUATION.model_dump(exclude={"linearised", "storage"})))
    assert EvaluationRecord.read(path) == EVALUATION


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "0.5", None])
def test_what_is_not_a_finite_number_is_never_written_as_a_score(score):
    with pytest.raises(ValueError, match=r"(finite|valid) number"):
        EVALUATION.replace(measures={"nDCG@10": {"q0": score}})


def test_lines_of_a_training_have_the_fields_that_were_given_and_a_damaged_one_its_number(tmp_path):
    path = tmp_path / "train.jsonl"
    assert read_train_lines(path) == []
    lines = [
        {"step": 1, "loss": 2.5, "learning_rate": 0.1, "gradient_norm": None, "examples_per_s": 3.0},
        {"step": 1, "validation_loss": 2.0, "validation_accuracy": 0.5, "validation_nDCG@10": 0.25},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = read_train_lines(path)
    assert [line.to_dict() for line in read] == lines
    assert read[1] == TrainLine(step=1, **{name: value for name, value in lines[1].items() if name != "step"})
    assert read[1].validation_ndcg == 0.25
    for damaged in ('{"step"', '{"loss": 1.0}', "[]"):
        path.write_text(f"{json.dumps(lines[0])}\n{damaged}\n")
        with pytest.raises(
            ProjheadsError, match=r"train\.jsonl, line 2: .*; delete the trial's folder and train again"
        ):
            read_train_lines(path)
