"""Whole experiments of seconds: a tiny backbone, a tiny collection, the real host."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from experiment.config.load import load_config, read_resolved
from experiment.console.command import run_command
from experiment.console.progress import Progress
from experiment.disk.files import sha256_file
from experiment.disk.layout import ExperimentFolder
from experiment.disk.models import weights_hash
from experiment.disk.records import read_train_lines
from experiment.encoding.tokens import encode_tokens
from experiment.executors.local import LocalExecutor
from projheads.errors import ProjheadsError
from projheads.hosts import load_host
from tests.eval.report.factory import steps, sweep_record, trial_record
from train.__main__ import main
from train.data.examples import load_training_data
from train.embedding.layers import check_checkpointing, lower_layers
from train.experiment import train_experiment, train_trials
from train.failures import TrainingFailedError
from train.preparation import prepare
from train.processes import Processes
from train.training import training_steps

ROOT = Path(__file__).parents[2]


def train(*overrides):
    config = load_config(Path("try.yaml"), overrides)
    train_experiment(config)
    return ExperimentFolder(config.output)


def ready(*overrides):
    config = load_config(Path("try.yaml"), overrides)
    return prepare(config, load_training_data(config))


def hashes(experiment):
    return {
        trial.path.relative_to(experiment.path).as_posix(): weights_hash(trial.model) for trial in experiment.trials()
    }


def test_an_experiment_leaves_what_the_design_says(folder, backbone, capsys):
    folder(backbone)
    experiment = train()
    trials = [trial.read_trial() for trial in experiment.trials()]
    assert [(trial.label, trial.seed) for trial in trials] == [
        ("ffn(depth=2)", 0), ("ffn(depth=2)", 1), ("linear", 0), ("linear", 1)
    ]  # fmt: skip
    assert all(trial.status == "finished" for trial in trials)
    assert [trial.is_baseline for trial in trials] == [False, False, True, True]
    assert trials[2].parameters == 32 * 8
    for trial, about in zip(experiment.trials(), trials, strict=True):
        lines = [json.loads(line) for line in trial.train_jsonl.read_text().splitlines()]
        assert [line["step"] for line in lines if "loss" in line] == [1, 2, 4, 6, 7]
        assert about.weights_hash == weights_hash(trial.model)
        assert about.validation.keys() == {"loss", "accuracy", "nDCG@10"}
    assert len({trial.weights_hash for trial in trials}) == 4
    assert {reference.path.parent.name for reference in experiment.references()} == {"untrained"}
    assert load_config(experiment.experiment_yaml) == load_config(Path("try.yaml"))
    told = capsys.readouterr().out
    assert "28 training pairs" in told
    assert "[4/4] ffn(depth=2) seed 1: loss" in told
    assert "\x1b" not in told


def test_a_model_opens_in_its_plain_host_with_the_same_bits(folder, backbone):
    pytest.importorskip("pylate")
    from pylate.models import ColBERT

    folder(backbone)
    trial = train("seeds=[0]").trials()[0]
    texts = ["the cat sat on a mat, is it red?", "paris"]
    ours = load_host("pylate").load(str(trial.model)).encode(texts, is_query=False)
    theirs = ColBERT(str(trial.model)).encode(texts, is_query=False)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_frozen_models_share_one_weight_file(folder, backbone):
    folder(backbone)
    experiment = train()
    files = [trial.model / "model.safetensors" for trial in experiment.trials()]
    assert len({file.stat().st_ino for file in files}) == 1


def test_the_same_command_again_trains_nothing_and_elsewhere_gives_the_same_bits(folder, backbone):
    folder(backbone)
    experiment = train()
    first = hashes(experiment)
    stamps = [trial.trial_json.stat().st_mtime_ns for trial in experiment.trials()]
    train()
    assert [trial.trial_json.stat().st_mtime_ns for trial in experiment.trials()] == stamps
    assert hashes(train("output=out2", "cache=cache2")) == first


def test_a_trial_is_finished_only_with_its_record_its_log_and_its_model(folder, backbone, capsys):
    folder(backbone)
    experiment = train()
    first = hashes(experiment)
    whole, without_model, without_log, damaged = experiment.trials()
    shutil.rmtree(without_model.model)
    without_log.train_jsonl.unlink()
    shutil.rmtree(experiment.reference("untrained", 1).model)
    stamp = whole.trial_json.stat().st_mtime_ns
    damaged.trial_json.write_text("{}")
    with pytest.raises(ProjheadsError, match=r"trial\.json: has no status; delete it and rerun python -m train"):
        train()
    damaged.trial_json.unlink()
    capsys.readouterr()
    assert hashes(train()) == first
    told = capsys.readouterr().out
    assert "1 already finished" in told
    assert f"ffn(depth=2) seed 1: {without_model.model} is missing; training it again" in told
    assert f"linear seed 0: {without_log.train_jsonl} is missing; training it again" in told
    assert whole.trial_json.stat().st_mtime_ns == stamp
    assert without_log.train_jsonl.exists()
    assert experiment.reference("untrained", 1).model.exists()


@pytest.mark.parametrize("sweep", ["sweep={}", "sweep={optimizer.head_lr: [1e-3, 1e-2]}"])
def test_an_experiment_keeps_its_precision_on_a_machine_that_would_choose_another(
    folder, backbone, sweep, monkeypatch, capsys
):
    folder(backbone)
    overrides = ("seeds=[0]", "train.max_steps=2", "train.precision=auto", sweep)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    experiment = train(*overrides)
    first = hashes(experiment)
    for trial in experiment.trials()[1:] if sweep == "sweep={}" else experiment.trials():
        shutil.rmtree(trial.path)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    capsys.readouterr()
    assert hashes(train(*overrides)) == first
    told = capsys.readouterr().out
    assert " in bf16 on cpu" in told
    assert " 0 already finished" not in told
    assert {trial.read_trial().precision for trial in experiment.trials()} == {"bf16"}
    larger = load_config(Path("try.yaml"), [*overrides, "axes={max_pairs: [16, 20]}"])
    point, derived = larger.points()[0]
    assert prepare(derived, load_training_data(derived), point).config.train.precision == "bf16"


@pytest.mark.parametrize("sweep", ["sweep={}", "sweep={optimizer.head_lr: [1e-3, 1e-2]}"])
def test_a_damaged_model_is_made_again_with_the_same_bytes(folder, backbone, sweep, capsys):
    folder(backbone)
    overrides = ("seeds=[0]", "train.max_steps=2", sweep)
    experiment = train(*overrides)
    first = hashes(experiment)
    flipped, incomplete = experiment.trials()
    (head,) = flipped.model.glob("1_*/*.safetensors")
    head.write_bytes(head.read_bytes()[:-1] + bytes([head.read_bytes()[-1] ^ 1]))
    (incomplete.model / "config_sentence_transformers.json").unlink()
    untrained = experiment.reference("untrained").model
    (untrained / "config_sentence_transformers.json").unlink()
    assert hashes(experiment) != first
    capsys.readouterr()
    assert hashes(train(*overrides)) == first
    told = capsys.readouterr().out
    # A sweep's choice shares its files with the trial that it is a copy of, and is copied again.
    again = (
        [f"{flipped.model} is damaged", f"{incomplete.model} is damaged"]
        if sweep == "sweep={}"
        else ["/model is damaged"]
    )
    assert all(f"{one} (its files are not those that were saved); training it again" in told for one in again)
    assert told.count("training it again") == len(again)
    assert (untrained / "config_sentence_transformers.json").exists()


def test_resume_points_of_a_finished_trial_are_deleted_and_those_of_a_later_training_are_not(folder, backbone):
    folder(backbone)
    own, other = train("seeds=[0]").trials()
    for trial, key in ((own, own.read_trial().key), (other, "of a later training")):
        (trial.resume / "step-2").mkdir(parents=True)
        (trial.resume / "step-2" / "state.json").write_text(json.dumps({"key": key}))
        (trial.resume / "step-1").mkdir()  # as a command leaves it that is killed while it deletes the point
        (trial.resume / "step-1" / "state.safetensors").touch()
    train("seeds=[0]")
    assert not own.resume.exists()
    assert other.resume.exists()


def test_the_reports_tests_read_the_fields_that_training_writes(folder, backbone):
    folder(backbone)
    experiment = train("sweep={optimizer.head_lr: [1e-3, 1e-2]}", "seeds=[0]", "heads.variants=[linear]")
    written = experiment.trials()[0]
    made = trial_record("linear", 0, 0, None, sweep_record({0.001: [0.1], 0.01: [0.2]}))
    record = written.read_trial()
    assert filled(record.model_dump()) == filled(made.model_dump()) != set()
    path = written.path / "made.jsonl"
    path.write_text(steps(0, 0))
    kinds = [
        {frozenset(filled(line.to_dict())) for line in read_train_lines(one)} for one in (written.train_jsonl, path)
    ]
    assert kinds[0] == kinds[1]


def filled(value, at=""):
    """Name every field that is not null, nested ones with their parents; keys of the configuration are left out."""
    if not isinstance(value, dict) or at.endswith(
        (".values", ".grid", ".chosen", ".versions", ".seeds", ".head_files")
    ):
        return {at} if value is not None and value != {} else set()
    return {name for key, one in value.items() for name in filled(one, f"{at}.{key}")}


def test_more_seeds_and_variants_are_added_to_what_is_there(folder, backbone):
    folder(backbone)
    first = hashes(train())
    more = hashes(train("seeds=[0, 1, 2]", "heads.variants=[linear, ffn(depth=2), upscaled]"))
    assert len(more) == 9
    assert first.items() <= more.items()


def test_another_experiment_is_refused(folder, backbone):
    folder(backbone)
    train("seeds=[0]")
    before = sha256_file(Path("out/experiment.yaml"))
    with pytest.raises(ProjheadsError, match=r"a different experiment \(train.batch_size is 4 there and 5 here\)"):
        train("train.batch_size=5")
    assert sha256_file(Path("out/experiment.yaml")) == before


def test_a_head_that_wastes_dimensions_is_warned_of(folder, backbone, capsys):
    folder(backbone)
    train("seeds=[0]", "train.max_steps=1", "heads.variants=[linear, ffn(hidden_features=4)]")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("): ")[0] for line in lines if line.startswith("warning: ffn")] == [
        "warning: ffn(hidden_features=4"
    ]


def test_a_configuration_that_failed_can_be_mended_in_its_folder(folder, backbone):
    folder(backbone)
    with pytest.raises(ProjheadsError, match="leaves 28 training examples"):
        train("train.batch_size=32", "seeds=[0]")
    assert len(train("seeds=[0]").trials()) == 2


def test_the_whole_model_is_trained(folder, backbone):
    folder(backbone)
    experiment = train("train.trainable=all", "train.optimizer.backbone_lr=1e-3", "seeds=[0]")
    weights = [load_file(trial.model / "model.safetensors") for trial in experiment.trials()]
    untrained = load_file(experiment.reference("untrained").model / "model.safetensors")
    name = next(name for name in untrained if name.endswith("0.attention.self.query.weight"))
    assert not np.allclose(weights[0][name], untrained[name], atol=1e-4)
    assert not np.array_equal(weights[0][name], weights[1][name])
    assert hashes(train("train.trainable=all", "train.optimizer.backbone_lr=1e-3", "seeds=[0]", "output=o2")) == hashes(
        experiment
    )


def test_a_trial_that_fails_is_told_and_the_others_go_on(folder, backbone, capsys):
    folder(backbone)
    assert run_command(main, ["try.yaml", "seeds=[0]", "train.loss.temperature=1e-40"]) == 1
    experiment = ExperimentFolder(Path("out"))
    trials = [trial.read_trial() for trial in experiment.trials()]
    assert [trial.status for trial in trials] == ["failed", "failed"]
    assert all("lower train.optimizer.head_lr" in trial.error for trial in trials)
    assert all(not trial.model.exists() for trial in experiment.trials())
    told = capsys.readouterr().out
    assert "[2/2] ffn(depth=2) seed 0: FAILED: step 1" in told
    assert told.splitlines()[-1] == (
        "2 of 2 trials failed: linear seed 0, ffn(depth=2) seed 0; rerun the same command to retry them"
    )


def test_a_full_disk_is_one_line_and_nothing_half_written(folder, backbone, monkeypatch, capsys):
    folder(backbone)
    glu = ["heads.variants=[glu, linear]", "heads.baseline=glu"]  # not a layer of the host, so head_files saves it
    train("seeds=[0]", *glu)
    before = hashes(ExperimentFolder(Path("out")))

    def full(*arguments, **options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("projheads.hosts.head_files.save_file", full)
    assert run_command(main, ["try.yaml", "seeds=[0, 1]", *glu]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "No space left on device" in told
    assert hashes(ExperimentFolder(Path("out"))) == before
    assert not list(Path("out").rglob(".*.tmp"))


def command(*overrides):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    arguments = [sys.executable, "-m", "train", "try.yaml", *overrides]
    # A shell that runs the tests in the background has them ignore Ctrl-C, which a child would inherit.
    return subprocess.Popen(
        arguments,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_a_trial(process):
    while not list(Path("out").glob("trials/*/seed-*/trial.json")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def test_killed_and_started_again_it_ends_with_the_same_bytes(folder, backbone):
    folder(backbone)
    longer = ("train.epochs=20", "seeds=[0, 1, 2]")
    process = command(*longer)
    wait_for_a_trial(process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = ExperimentFolder(Path("out")).trials()
    assert 1 <= len(done) < 6
    stamps = {trial.path: trial.trial_json.stat().st_mtime_ns for trial in done}
    experiment = train(*longer)
    assert all(path.joinpath("trial.json").stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert not list(experiment.path.rglob(".*.tmp"))
    assert hashes(experiment) == hashes(train(*longer, "output=never-stopped"))


def test_ctrl_c_ends_with_one_line_and_two_processes_do_not_share_a_folder(folder, backbone):
    folder(backbone)
    process = command("train.epochs=50", f"seeds={list(range(20))}")
    wait_for_a_trial(process)
    with pytest.raises(ProjheadsError, match="another process is using this folder"):
        train()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130
    assert told.strip().splitlines()[-1] == "stopped; rerun the same command to resume"
    assert "Traceback" not in told


@pytest.fixture(scope="module")
def without_dropout(backbone, tmp_path_factory):
    """The tiny backbone with no dropout, whose numbers do not depend on how a batch is split."""
    folder = shutil.copytree(backbone, tmp_path_factory.mktemp("dropout") / "backbone")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    )
    return folder


def lines(experiment):
    return {
        trial.path.relative_to(experiment.path).as_posix(): [
            json.loads(line) for line in trial.train_jsonl.read_text().splitlines()
        ]
        for trial in experiment.trials()
    }


def assert_same_training(ours, theirs, tolerance):
    ours, theirs = lines(ours), lines(theirs)
    assert ours.keys() == theirs.keys()
    for trial, expected in theirs.items():
        assert len(ours[trial]) == len(expected)
        for line, other in zip(ours[trial], expected, strict=True):
            for name in other.keys() - {"examples_per_s", "learning_rate", "step"}:
                assert line[name] == pytest.approx(other[name], rel=tolerance), (trial, line["step"], name)


@pytest.mark.parametrize("regime", ["head", "all"])
def test_two_processes_train_as_one_does(folder, without_dropout, regime):
    """``torchrun`` with gloo on the CPU; a batch of 5 splits into 3 and 2."""
    folder(without_dropout)
    options = [f"train.trainable={regime}", "seeds=[0]", "train.batch_size=5", "train.log_every=1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--log-dir=logs", "--tee=3"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "train", "try.yaml", *options],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(log.parent.name for log in Path("logs").glob("*/attempt_0/*/stdout.log")) == ["0", "1"]
    assert done.stdout.count("2 processes train each trial together") == 1
    assert done.stdout.count("2 trials (2 variants x 1 seeds)") == 1
    assert_same_training(ExperimentFolder(Path("out")), train(*options, "output=alone"), 2e-4)


def test_a_launcher_that_started_one_process_is_noted(folder, backbone, monkeypatch, capsys):
    folder(backbone)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    train("seeds=[0]", "train.max_steps=1")
    assert "accelerate launch started one process" in capsys.readouterr().out


def test_a_batch_smaller_than_the_processes_is_one_line(folder, backbone):
    folder(backbone)
    prepared = ready("eval.references=[]")
    with pytest.raises(ProjheadsError, match=r"train\.batch_size: 4 examples cannot be shared by 5 processes"):
        train_trials(prepared, ExperimentFolder(Path("out")), Processes(1, 5), LocalExecutor(), Progress(quiet=True))


@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_the_last_layers_are_trained_from_stored_states_as_without(folder, without_dropout, monkeypatch, checkpointing):
    folder(without_dropout)
    options = ["train.trainable=top-1", "seeds=[0]", "train.optimizer.backbone_lr=1e-3"]
    options.append(f"train.gradient_checkpointing={checkpointing}")
    stored = train(*options)
    # The same with the states computed again from the texts in every batch.
    monkeypatch.setattr("train.embedding.states.UpperLayers", lambda *arguments: None)
    anew = train(*options, "output=anew", "cache=anew-cache")
    assert_same_training(stored, anew, 1e-4)
    before = load_file(ExperimentFolder(Path("out")).references()[0].model / "model.safetensors")
    after = load_file(stored.trials()[0].model / "model.safetensors")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all("encoder.layer.1." in name for name in changed)


def test_the_states_below_the_trained_layers_are_the_same_for_any_number_of_threads(folder, backbone, threads):
    folder(backbone)
    prepared = ready("train.trainable=top-1")
    texts = [" ".join(["mat", *["the"] * (place % 9)]) for place in range(400)]
    with lower_layers(prepared.model, 1) as lower:
        states = encode_tokens(lower, texts, is_query=False, project=False, batch_tokens=16)
        for place in (0, 7, 399):
            alone = encode_tokens(lower, [texts[place]], is_query=False, project=False, dtype="float32")
            assert np.allclose(states[place], alone[0], atol=1e-3)


@pytest.mark.parametrize(("trainable", "again"), [("top-1", True), ("head", False)])
def test_what_older_code_made_of_the_last_layers_is_made_again(folder, backbone, monkeypatch, trainable, again):
    folder(backbone)
    options = [f"train.trainable={trainable}", "seeds=[0]", "heads.variants=[linear]", "eval.references=[]"]

    def made():
        trials = [trial.read_trial().key for trial in train(*options).trials()]
        return trials, {path.parent.name for path in Path().glob("**/states/*/store.json")}

    with monkeypatch.context() as older:
        for module in ("train.trial", "train.embedding.states"):
            older.setattr(f"{module}.LAYERS_VERSION", 1)
        trials, states = made()
    assert len(states) == 2
    trials_now, states_now = made()
    assert (trials_now != trials) is again
    assert len(states_now - states) == (2 if again else 0)


def test_checkpoints_that_are_not_of_layers_are_one_line(folder, backbone):
    folder(backbone)
    # Layers have their own checkpoints only once transformers has turned them on.
    with pytest.raises(ProjheadsError, match=r"train\.gradient_checkpointing: does not work with only the last layers"):
        check_checkpointing(ready("train.trainable=top-1").model, 1)


def test_more_layers_than_there_are_is_one_line(folder, backbone):
    folder(backbone)
    with pytest.raises(ProjheadsError, match=r"train\.trainable: the backbone has 2 layers; use all"):
        train("train.trainable=top-2", "seeds=[0]")


def test_a_full_memory_or_disk_fails_the_trial_and_the_others_go_on(folder, backbone, monkeypatch, capsys):
    folder(backbone)
    errors = iter([torch.OutOfMemoryError("CUDA out of memory.\nmore"), OSError(28, "No space left on device", "x")])

    def fail(*arguments, **options):
        error = next(errors, None)
        if error:
            raise error
        return original(*arguments, **options)

    original = training_steps
    monkeypatch.setattr("train.trainer.training_steps", fail)
    experiment = train()
    told = capsys.readouterr().out
    assert told.count("FAILED") == 2
    assert "FAILED: the device is out of memory; lower train.batch_size" in told
    assert "FAILED: x: No space left on device; free some space and rerun the same command" in told
    assert "2 of 4 trials failed" in told
    assert sorted(trial.read_trial().status for trial in experiment.trials()) == ["failed"] * 2 + ["finished"] * 2
    assert run_command(main, ["try.yaml"]) == 0
    assert {trial.read_trial().status for trial in experiment.trials()} == {"finished"}


def test_a_trial_that_a_full_disk_ended_goes_on_from_its_last_point(folder, backbone, monkeypatch):
    folder(backbone)
    options = ("seeds=[0]", "heads.variants=[linear]", "train.resume_every=2")
    whole = hashes(train(*options, "output=never-stopped"))
    saved, starts = [], []

    def full(tensors, path):
        saved.append(path)
        if len(saved) == 2:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save_file(tensors, path)

    def watched(*arguments, on_step, **named):
        return training_steps(
            *arguments, on_step=lambda step, record: starts.append(step) or on_step(step, record), **named
        )

    with monkeypatch.context() as patch:
        patch.setattr("train.resume.save_file", full)
        (trial,) = train(*options).trials()
    assert "No space left on device" in trial.read_trial().error
    assert [point.name for point in trial.resume.glob("step-*")] == ["step-2"]
    monkeypatch.setattr("train.trainer.training_steps", watched)
    assert hashes(train(*options)) == whole
    assert starts[0] == 2
    assert not trial.resume.exists()


def test_a_trial_killed_in_its_middle_goes_on_from_its_last_point(folder, backbone):
    folder(backbone)
    longer = ("train.trainable=all", "train.epochs=30", "seeds=[0]", "heads.variants=[linear]")
    process = command(*longer, "train.resume_every=2")
    while not list(Path("out").glob("trials/*/seed-0/resume/step-*")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    points = [int(point.name.removeprefix("step-")) for point in Path("out").glob("trials/*/seed-0/resume/step-*")]
    experiment = train(*longer, "train.resume_every=2")
    assert points
    assert not experiment.trials()[0].resume.exists()
    assert hashes(experiment) == hashes(train(*longer, "output=never-stopped"))


def test_trackers_show_the_lines_of_a_trial(folder, backbone):
    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder(backbone)
    experiment = train("seeds=[0]", "train.trackers=[tensorboard]")
    for trial in experiment.trials():
        events = tensorboard.EventAccumulator(str(trial.path / "tensorboard"))
        events.Reload()
        shown = {(event.step, event.value) for event in events.Scalars("loss")}
        written = [json.loads(line) for line in trial.train_jsonl.read_text().splitlines()]
        assert shown == {(line["step"], np.float32(line["loss"])) for line in written if "loss" in line}


def test_a_failed_training_leaves_the_stored_configuration_as_it_was(folder, backbone, monkeypatch):
    folder(backbone)
    train("seeds=[0]")
    before = sha256_file(Path("out/experiment.yaml"))
    with pytest.raises(ProjheadsError, match="leaves"):
        train("seeds=[7]", "axes={batch_size: [4, 30]}")
    assert sha256_file(Path("out/experiment.yaml")) == before

    def fails(*args, **options):
        raise TrainingFailedError("its loss is not finite")

    monkeypatch.setattr("train.trainer.training_steps", fails)
    failed = train_experiment(load_config(Path("try.yaml"), ["seeds=[8]"]))
    assert failed == ["linear seed 8", "ffn(depth=2) seed 8"]
    assert sha256_file(Path("out/experiment.yaml")) == before


@pytest.mark.parametrize("damage", ["missing", "half", "other"])
def test_a_damaged_stored_configuration_is_written_again_from_the_commands_own(folder, backbone, capsys, damage):
    folder(backbone)
    trained = hashes(train("seeds=[0]", "heads.variants=[linear]"))
    stored = Path("out/experiment.yaml")
    whole = stored.read_bytes()
    stored.write_bytes(b"\xff: [" if damage == "other" else whole[: len(whole) // 2])
    if damage == "missing":
        stored.unlink()
    with pytest.raises(ProjheadsError, match="rerun python -m train or python -m eval with the experiment's own YAML"):
        read_resolved(Path("out"))
    with pytest.raises(ProjheadsError, match=r"a trial of a different experiment \(heads.init is 'torch' there"):
        train("seeds=[0]", "heads.variants=[linear]", "heads.init=xavier")
    assert hashes(train("seeds=[0]", "heads.variants=[linear]")) == trained
    assert "this command writes it again" in capsys.readouterr().out
    assert stored.read_bytes() == whole


@pytest.mark.parametrize(
    "override", ["output=try.yaml", "cache=try.yaml/cache", "eval.index=foo", "train.trackers=[wandb]"]
)
def test_a_dry_run_finds_what_would_stop_the_training(folder, backbone, monkeypatch, capsys, override):
    folder(backbone)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "nothing")
    assert run_command(main, ["try.yaml", "--dry-run", override]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not Path("out").exists()


@pytest.mark.parametrize("options", [["heads.init=pca"], ["axes={heads.init: [torch, pca]}"]])
def test_a_head_that_cannot_start_is_refused_before_anything_is_trained(folder, backbone, capsys, options):
    folder(backbone)
    narrow = "heads.variants=[linear, 'ffn(hidden_features=8, activation=gelu)']"
    for dry in (["--dry-run"], []):
        assert run_command(main, ["try.yaml", *options, narrow, *dry]) == 2
        assert "layer 1 is 8 wide; carrying the map in pairs of gelu units needs 16" in capsys.readouterr().err
    assert not Path("out/trials").exists()


@pytest.mark.parametrize("variants, init", [("linear, ffn", "pca"), ("linear, glu", "torch")])
def test_the_start_that_is_chosen_is_stored_and_torch_is_explained(folder, backbone, capsys, variants, init):
    folder(backbone)
    options = ["try.yaml", "heads.init=auto", f"heads.variants=[{variants}]", "seeds=[0]", "train.max_steps=1"]
    reason = "heads.init: torch for all variants; it would be pca if all could start from it, but head glu cannot take"
    assert run_command(main, [*options, "--dry-run"]) == 0
    told = capsys.readouterr()
    assert f"  init: {init}\n" in told.out
    assert told.err.count(reason) == (init == "torch")
    assert run_command(main, options) == 0
    assert capsys.readouterr().out.count(reason) == (init == "torch")
    assert f"  init: {init}\n" in Path("out/experiment.yaml").read_text()
    records = [trial.read_trial() for trial in ExperimentFolder(Path("out")).trials()]
    assert {record.init for record in records} == {init}
    assert run_command(main, [*options, "axes={heads.init: [xavier]}", "output=axes"]) == 0
    assert reason not in capsys.readouterr().out


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_more_outputs_than_inputs_are_one_line_under_pca(folder, backbone, capsys, dry):
    folder(backbone)
    wide = ["try.yaml", "heads.out_features=40"]  # The backbone's token states have 32 numbers.
    assert run_command(main, [*wide, "heads.init=auto", *dry]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "init pca has 32 directions, one for each of the in_features, fewer than the 40 out_features" in line
    assert line.endswith("; set heads.init: torch")
    assert not Path("out/trials").exists()
    assert run_command(main, [*wide, "seeds=[0]", "train.max_steps=1", "heads.init=torch", *dry]) == 0


def test_a_start_that_an_axis_names_does_not_depend_on_the_default(folder, backbone):
    folder(backbone)
    options = ["try.yaml", "seeds=[0]", "train.max_steps=1", "axes={heads.init: [torch, xavier]}"]
    assert run_command(main, [*options, "heads.init=torch"]) == 0
    assert run_command(main, [*options, "heads.init=auto"]) == 0


def test_a_folder_of_a_different_start_says_how_to_resume(folder, backbone, capsys):
    folder(backbone)
    trained = hashes(train("seeds=[0]"))
    before = Path("out/experiment.yaml").read_bytes()
    assert run_command(main, ["try.yaml", "seeds=[0, 1]", "heads.init=auto"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "(heads.init is 'torch' there and 'pca' here); for that one, set heads.init=\"torch\"; " in line
    assert hashes(ExperimentFolder(Path("out"))) == trained
    assert Path("out/experiment.yaml").read_bytes() == before
    assert trained.items() <= hashes(train("seeds=[0, 1]", 'heads.init="torch"')).items()


@pytest.mark.parametrize("axes", ["axes={}", "axes={heads.out_features: [4, 8]}"])
def test_the_variants_that_need_projheads_are_named(folder, backbone, capsys, axes):
    folder(backbone)
    options = ["seeds=[0]", "sweep={}", "train.max_steps=1", "eval.references=[]", axes]
    assert run_command(main, ["try.yaml", *options, "heads.variants=[linear, glu]"]) == 0
    told = capsys.readouterr().out
    assert "models of glu open where projheads is installed" in told
    assert "the others open in the plain host" in told


@pytest.mark.parametrize(
    ("override", "missing"),
    [
        ("train.next_stages=[{data: gone.jsonl}]", "gone.jsonl: the file does not exist yet"),
        ("train.validation=nano:scifact", "nano:scifact: not on this disk yet"),
        ("axes={data.source: [beir:scifact]}", "beir:scifact: not on this disk yet"),
    ],
)
def test_a_dry_run_reads_no_data_that_is_missing(folder, backbone, capsys, override, missing):
    folder(backbone)
    assert run_command(main, ["try.yaml", "--dry-run", override]) == 0
    told = capsys.readouterr().err
    assert f"warning: {missing}" in told
    assert "truncation and time are known once the data is on this disk" in told


def test_test_queries_that_are_trained_on_are_a_warning(folder, backbone, capsys):
    made = folder(backbone)
    warning = "warning: {} test queries of set are also training queries"
    assert run_command(main, ["try.yaml", "--dry-run"]) == 0
    assert warning.format("32 of 32") in capsys.readouterr().err
    lines = (made / "set" / "qrels" / "test.tsv").read_text().splitlines(keepends=True)
    (made / "set" / "qrels" / "train.tsv").write_text("".join(lines[:13]))
    (made / "set" / "qrels" / "test.tsv").write_text("".join([lines[0], *lines[11:]]))
    assert run_command(main, ["try.yaml", "--dry-run"]) == 0
    assert warning.format("2 of 22") in capsys.readouterr().err
    (made / "set" / "qrels" / "test.tsv").write_text("".join([lines[0], *lines[13:]]))
    assert run_command(main, ["try.yaml", "--dry-run"]) == 0
    assert "also training queries" not in capsys.readouterr().err
    shutil.copytree(made / "set", made / "more")
    (made / "more" / "qrels" / "dev.tsv").write_text("".join([lines[0], *lines[-3:]]))
    assert run_command(main, ["try.yaml", "--dry-run", "train.validation={source: more, split: dev}"]) == 0
    told = capsys.readouterr().err
    assert "3 of 20 test queries of set are also development queries, which choose the learning rate" in told
    assert "also training queries" not in told


def test_points_with_the_same_training_settings_share_their_data(folder, backbone, monkeypatch):
    folder(backbone)
    read = []
    monkeypatch.setattr(
        "train.experiment.load_training_data", lambda config: read.append(1) or load_training_data(config)
    )
    train(
        "seeds=[0]", "train.max_steps=1", "heads.variants=[linear]", "axes={epochs: [1, 2], heads.out_features: [4, 8]}"
    )
    assert len(read) == 2
