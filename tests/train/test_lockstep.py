"""``train.states: lockstep``: trials side by side, whose states are not stored, end with the bytes of stored ones."""

import json
import multiprocessing
import re
import shutil
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from experiment.config.load import load_config
from experiment.console.command import run_command
from experiment.console.progress import Progress
from experiment.disk.files import read_json
from experiment.disk.layout import ExperimentFolder
from experiment.encoding.tokens import encode_tokens
from projheads.errors import ProjheadsError
from projheads.hosts import available_hosts
from train.__main__ import main
from train.data.examples import load_training_data
from train.embedding.states import TrainingStates
from train.embedding.way import choose_states, with_states
from train.experiment import train_experiment
from train.lockstep import lockstep_groups
from train.preparation import prepare
from train.processes import Processes
from train.trainer import Trainer
from train.training import training_steps
from train.trial import plan_trials

pytestmark = pytest.mark.skipif(not available_hosts(), reason="no host is installed")

LOCKSTEP = ("train.states=lockstep", "train.epochs=2")


def train(*options, failed=0):
    config = load_config(Path("try.yaml"), options)
    assert len(train_experiment(config)) == failed
    return ExperimentFolder(config.output)


def weights(experiment):
    """The weights of every trial, and its lines, without what differs from run to run."""
    found = {}
    for trial in experiment.trials():
        record = trial.read_trial()
        lines = [json.loads(line) for line in trial.train_jsonl.read_text().splitlines()]
        steady = [{key: value for key, value in line.items() if key != "examples_per_s"} for line in lines]
        found[trial.path.parent.name, record.seed] = (record.weights_hash, record.validation, steady)
    return found


def prepared_for(*options):
    config = load_config(Path("try.yaml"), options)
    prepared = prepare(config, load_training_data(config))
    folder = ExperimentFolder(config.output)
    return with_states(prepared, choose_states(prepared, folder, Processes())), folder


def trained_from_a_canonical_store(*options):
    """Train the same trials one by one from stores of all texts, encoded in canonical batches."""
    prepared, folder = prepared_for("train.states=lockstep", *options)
    encode = partial(encode_tokens, prepared.model, project=False, canonical=True)
    states = []
    for data in (prepared.data, *prepared.later):
        stores = (encode(data.queries, is_query=True), encode(data.documents, is_query=False))
        states.append(TrainingStates(stores, None))
    trainer = Trainer(prepared, tuple(states), folder, Processes())
    for trial in plan_trials(prepared, folder):
        trainer(trial, Progress(quiet=True), lambda more, note="": None)
    return folder


TRAININGS = {
    "plain": (),
    "validated and probed": ("train.validations=3", "eval.explain=true"),
    "development queries": ("train.validation=[{split: dev}, {source: more, split: dev}]",),
    "accumulated": ("train.gradient_accumulation=2", "train.mini_batch_size=3", "train.average=0.9"),
    "stages": ("train.next_stages=[{batch_size: 8, epochs: 3}]",),
    "tuples": ("train.data={tuples: taught.jsonl}", "train.loss=kl", "train.max_steps=5"),
}


@pytest.fixture
def work(folder, backbone):
    """The folder of `try.yaml`, with a split of development queries and a file of tuples."""
    path = folder(backbone)
    with (path / "set/queries.jsonl").open("a") as queries:
        queries.write('{"_id": "dev0", "text": "where is the cat"}\n{"_id": "dev1", "text": "where is rain"}\n')
    (path / "set/qrels/dev.tsv").write_text("query-id\tcorpus-id\tscore\ndev0\td0\t1\ndev1\td20\t1\n")
    shutil.copytree(path / "set", path / "more")
    tuples = [
        {"query": f"what is the {noun}", "documents": [f"the {noun} sat", "a red bird", "rain"], "scores": [3, 1, 0]}
        for noun in ("cat", "dog", "sun", "mat", "rain", "bird") * 4
    ]
    tuples = [{**one, "query": f"{one['query']} {number}"} for number, one in enumerate(tuples)]
    (path / "taught.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in tuples))
    return path


@pytest.mark.parametrize("training", TRAININGS)
def test_lockstep_has_the_bytes_of_trials_trained_singly_from_a_canonical_store(work, training, monkeypatch):
    monkeypatch.setattr("train.embedding.lockstep.TEXTS_AHEAD", {"cpu": 20})
    options = ["train.epochs=2", "seeds=[1]", *TRAININGS[training]]
    together = weights(train("train.states=lockstep", *options))
    assert len(together) == 2
    assert together == weights(trained_from_a_canonical_store(*options, "output=stored"))
    single = train("train.states=lockstep", "output=single", *options, "heads.variants=[linear]")
    assert weights(single) == {("linear", 1): together["linear", 1]}


def test_the_states_of_a_seeds_batches_are_computed_once_for_all_variants_and_points_and_not_stored(work, monkeypatch):
    encoded = []

    def counted(model, texts, **options):
        encoded.append(len(texts))
        return encode_tokens(model, texts, **options)

    monkeypatch.setattr("train.embedding.states.encode_tokens", counted)
    sizes = {}
    for points in ("[1e-3]", "[1e-3, 3e-3]"):
        encoded.clear()
        train(
            *LOCKSTEP,
            f"output=out{points}",
            f"cache=cache{points}",
            f"sweep={{optimizer.head_lr: {points}, extend: 0}}",
        )
        sizes[points] = list(encoded)
        stored = sum(file.stat().st_size for file in Path(f"cache{points}").rglob("vectors.bin"))
        held_out = sum(sizes[points][:2])
        assert 0 < held_out <= 8
        assert stored <= held_out * 16 * 32 * 2
    assert sizes["[1e-3]"] == sizes["[1e-3, 3e-3]"]


def test_a_group_that_is_stopped_anywhere_resumes_with_the_same_bytes(work, monkeypatch):
    monkeypatch.setattr("train.embedding.lockstep.TEXTS_AHEAD", {"cpu": 16})
    whole = weights(train(*LOCKSTEP, "output=whole", "seeds=[0]", "train.resume_every=3"))

    class Killed(BaseException):
        pass

    def killed_at(limit):
        done = []

        def stopping(*arguments, **options):
            for step in training_steps(*arguments, **options):
                yield step
                done.append(step)
                if len(done) == limit:
                    raise Killed

        return stopping

    options = [*LOCKSTEP, "seeds=[0]", "train.resume_every=3"]
    for limit in (6, 9, 2):  # between two resume points, and after that of one trial only
        with monkeypatch.context() as patch:
            patch.setattr("train.trainer.training_steps", killed_at(limit))
            with pytest.raises(Killed):
                train(*options)
    points = {point.name for point in Path("out").glob("trials/*/seed-0/resume/step-*")}
    assert points
    assert weights(train(*options)) == whole


def test_a_trial_that_fails_leaves_the_others_of_its_group(work, monkeypatch, capsys):
    whole = weights(train(*LOCKSTEP, "output=whole", "seeds=[0]"))

    def fails(config, head, *arguments, **options):
        if type(head).__name__ == "FFN":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return training_steps(config, head, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("train.trainer.training_steps", fails)
        experiment = train(*LOCKSTEP, "seeds=[0]", failed=1)
    assert "ffn(depth=2) seed 0: FAILED: the device is out of memory" in capsys.readouterr().out
    assert {trial.read_trial().status for trial in experiment.trials()} == {"finished", "failed"}
    assert weights(train(*LOCKSTEP, "seeds=[0]")) == whole


def test_workers_of_which_one_is_killed_train_groups_with_the_same_bytes(work):
    options = ["train.states=lockstep", "train.epochs=15", "train.resume_every=5", "threads=1"]
    one = weights(train("output=one", *options))
    killed = []

    def kill_a_worker():
        while not any(Path("several").glob("trials/*/*/resume/step-*")):
            time.sleep(0.005)
        for worker in multiprocessing.active_children()[:1]:
            worker.kill()
            killed.append(worker)

    killing = threading.Thread(target=kill_a_worker, daemon=True)
    killing.start()
    assert run_command(main, ["try.yaml", "output=several", *options, "--workers", "2"]) == 0
    killing.join()
    assert killed
    assert weights(ExperimentFolder(Path("several"))) == one


def test_trials_share_a_group_if_they_read_the_same_texts_at_every_step(work):
    prepared, folder = prepared_for("train.states=lockstep")
    trials = plan_trials(prepared, folder)

    def with_settings(**changes):
        return [replace(one, config=one.config.model_copy(update=changes)) for one in trials]

    def sizes(some, prepared=prepared):
        return sorted(len(group.trials) for group in lockstep_groups(prepared, some))

    assert sizes(trials) == [2, 2]
    assert sizes([*trials, *with_settings(max_grad_norm=None)]) == [4, 4]
    assert sizes([*trials, *with_settings(batch_size=2, gradient_accumulation=2)]) == [4, 4]
    assert sizes([*trials, *with_settings(batch_size=8)]) == [2, 2, 2, 2]
    train_section = prepared.config.train.model_copy(update={"trackers": ("trackio",)})
    followed = replace(prepared, config=prepared.config.model_copy(update={"train": train_section}))
    assert sizes(trials, followed) == [1, 1, 1, 1]


def states_of(experiment):
    return {read_json(trial.trial_json)["states"] for trial in experiment.trials()}


def test_auto_stores_what_fits_and_says_why(work, capsys):
    assert states_of(train("seeds=[0]")) == {"stored"}
    said = capsys.readouterr().out
    size = r"[\d.]+ kB of disk, [\d.]+ MB of memory"
    assert re.search(
        rf"token states of the training texts stored: {size} \(up to .* may be stored; lockstep: {size}\)", said
    )
    times = r"[\d.e+]+ floating-point operations, on this machine \d+ s, on 8 such machines \d+ s"
    assert re.search(rf"\ntraining stored: {times}; lockstep: {times}\n", said)


def test_auto_trains_in_lockstep_if_the_states_do_not_fit_and_stays_with_it(work, monkeypatch, capsys):
    monkeypatch.setattr("train.embedding.way.free_bytes", lambda folder: 20_000.0)
    assert run_command(main, ["try.yaml", "seeds=[0]", "--dry-run"]) == 0
    foreseen = "token states of the training texts lockstep: "
    assert foreseen in capsys.readouterr().err
    assert states_of(train("seeds=[0]")) == {"lockstep"}
    said = capsys.readouterr().out
    assert foreseen in said
    assert "(20.0 kB are free, of which at most 10.0 kB may be used; stored: " in said
    monkeypatch.undo()
    monkeypatch.chdir(work)
    assert states_of(train("seeds=[0, 1]")) == {"lockstep"}
    said = capsys.readouterr().out
    assert "(as out was started; stored: " in said
    assert "2 already finished" in said
    with pytest.raises(ProjheadsError, match=r"out: its trials were trained with train.states: lockstep; set that"):
        train("seeds=[0, 1]", "train.states=stored")


def test_auto_stays_with_the_way_of_a_resume_point(work, monkeypatch):
    class Killed(BaseException):
        pass

    def stopping(*arguments, **options):
        for step in training_steps(*arguments, **options):
            yield step
            if step == 3:
                raise Killed

    monkeypatch.setattr("train.trainer.training_steps", stopping)
    with pytest.raises(Killed):
        train("seeds=[0]", "train.resume_every=2", "train.states=lockstep")
    monkeypatch.undo()
    monkeypatch.chdir(work)
    assert states_of(train("seeds=[0]", "train.resume_every=2")) == {"lockstep"}


def test_a_stored_trial_has_the_key_that_it_had_without_the_setting(work):
    keys = {}
    for states in ("auto", "stored", "lockstep"):
        prepared, folder = prepared_for(f"train.states={states}")
        keys[states] = [trial.key for trial in plan_trials(prepared, folder)]
    assert keys["auto"] == keys["stored"]
    assert not set(keys["stored"]) & set(keys["lockstep"])


def test_lockstep_needs_a_frozen_backbone_and_one_process_for_a_trial(work):
    with pytest.raises(ProjheadsError, match="states: lockstep needs a frozen backbone; set `trainable: head`"):
        load_config(Path("try.yaml"), ["train.states=lockstep", "train.trainable=all"])
    config = load_config(Path("try.yaml"), ["train.states=lockstep"])
    prepared = prepare(config, load_training_data(config))
    with pytest.raises(ProjheadsError, match="lockstep does not work with several processes for each trial"):
        choose_states(prepared, ExperimentFolder(config.output), Processes(1, 2))


def test_the_card_says_how_a_model_was_trained(work):
    (trial,) = train(*LOCKSTEP, "seeds=[0]", "heads.variants=[linear]").trials()
    assert "lockstep" in (trial.model / "README.md").read_text()
