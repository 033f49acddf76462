"""What a dry run says that training takes, against arithmetic by hand."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from experiment.config.load import load_config
from experiment.console.command import run_command
from experiment.disk.layout import ExperimentFolder
from experiment.encoding.canonical import padding_ratio
from experiment.needs import Need
from projheads.hosts import available_hosts
from train import forecast
from train.__main__ import main
from train.data.examples import load_training_data
from train.duration import Duration
from train.embedding.way import choose_states
from train.preparation import prepare
from train.processes import Processes
from train.training_work import Training, TrainingWork
from train.trial import plan_trials

pytestmark = pytest.mark.skipif(not available_hosts(), reason="no host is installed")

PARAMETERS = 2 * (4 * 32 * 32 + 2 * 32 * 64) + 32 * 32
"""Matrices of the tiny backbone: attention and feed-forward of two layers, and the pooler."""


def work_of(*options):
    config = load_config(Path("try.yaml"), options)
    prepared, folder = prepare(config, load_training_data(config)), ExperimentFolder(config.output)
    way = choose_states(prepared, folder, Processes())
    return TrainingWork(prepared, plan_trials(prepared, folder)), way


def test_operations_and_disk_of_both_ways_are_those_by_hand(folder, backbone):
    folder(backbone)
    work, way = work_of("heads.variants=[linear]", "seeds=[0, 1]", "train.epochs=3", "train.validations=2")
    stored, lockstep = work.stored(way.stored_bytes, cached=False), work.lockstep(way.kept_bytes)
    # 32 pairs, of which 4 are held out; 3 epochs of 7 steps with 4 pairs; 12 tokens for each query of expanded ones.
    (stage,) = work.stages
    query, document = stage.queries.tokens, stage.documents.tokens
    encode = {n: n * (2 * PARAMETERS + 4 * 2 * 32 * n) for n in (query, document)}
    heads = 2 * 3 * 84 * (query + document) * 32 * 8 + 2 * 8 * 84 * query * 4 * document
    validation = 2 * (2 * 4 * (query + document) * 32 * 8 + 2 * 8 * 4 * query * 4 * document)
    trials = 2 * (heads + validation)
    assert stored.need.flop == pytest.approx(32 * sum(encode.values()) + trials)
    assert stored.need.disk == pytest.approx(32 * (query + document) * 32 * 2, rel=0.02)
    assert lockstep.need.disk == pytest.approx(4 * (query + document) * 32 * 2, rel=0.02)
    # The held-out texts and, for each seed, all others: one batch of 64 rows of 16 tokens each.
    per_token = encode[query] / query + encode[document] / document
    assert lockstep.need.flop == pytest.approx(3 * 1024 * per_token + trials, rel=0.05)
    assert len(stored.parts_s) == len(lockstep.parts_s) == 2
    assert lockstep.encode_s == pytest.approx(lockstep.first_s + sum(lockstep.parts_s) - sum(stored.parts_s))
    assert work.stored(way.stored_bytes, cached=True).need.flop == pytest.approx(trials)


def test_a_trained_backbone_takes_three_passes_and_the_disk_of_its_models(folder, backbone):
    folder(backbone)
    frozen, _ = work_of("heads.variants=[linear]", "train.validations=0")
    trained, none = work_of("heads.variants=[linear]", "train.validations=0", "train.trainable=all")
    assert none is None
    encoded = frozen.stored(0.0, cached=False).need.shared
    stored = trained.stored(trained.models(), cached=False)
    heads = frozen.stored(0.0, cached=True).need.flop
    assert stored.need.flop == pytest.approx(heads + 2 * 3 * 28 / 32 * encoded)
    assert stored.first_s == 0
    half, _ = work_of("heads.variants=[linear]", "train.validations=0", "train.trainable=top-1")
    assert half.stored(0.0, cached=False).need.flop == pytest.approx(heads + encoded / 2 + 3 * 28 / 32 * encoded)
    weights = sum(parameter.numel() for parameter in trained.prepared.model.native.parameters())
    assert trained.models() == 2 * 4 * weights
    assert run_command(main, ["try.yaml", "train.trainable=all", "--dry-run"]) == 0


def memory_of(work):
    return work.stored(0.0, cached=True).need.memory, work.lockstep(0.0).need.memory


def test_larger_batches_and_heads_take_more_memory(folder, backbone):
    folder(backbone)
    base, batch, head = (
        memory_of(work_of(option)[0])
        for option in ("seeds=[0]", "train.batch_size=14", "heads.variants=[linear, 'ffn(hidden_features=4096)']")
    )
    assert base[0] < min(batch[0], head[0])
    assert base[1] < min(batch[1], head[1])


def test_every_thread_that_encodes_takes_memory(folder, backbone, monkeypatch):
    folder(backbone)
    one = memory_of(work_of("seeds=[0]")[0])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    four = memory_of(work_of("seeds=[0]")[0])
    assert [more - less for more, less in zip(four, one, strict=True)] == [3 * 100e6] * 2


def test_machines_share_the_parts_and_not_what_comes_first():
    training = Training(Need(0, 0, 0), 10.0, [5.0, 1.0, 4.0, 2.0], 10.0)
    assert [training.seconds_on(machines) for machines in (1, 2, 3, 9)] == [22, 16, 15, 15]


def test_canonical_batches_are_filled_with_repeated_rows():
    # Texts of 17 tokens one by one, padded to 32; texts of 10 two by two, padded to 16, and the fifth one twice.
    assert padding_ratio(np.array([17] * 3), 3, 32) == 96 / 51
    assert padding_ratio(np.array([10]), 5, 32) == 3 * 2 * 16 / 50
    assert padding_ratio(np.array([16]), 4, 32) == 1


def test_the_dry_run_of_a_trained_backbone_names_disk_memory_and_operations(folder, backbone, capsys):
    folder(backbone)
    assert run_command(main, ["try.yaml", "train.trainable=all", "--dry-run"]) == 0
    pattern = (
        r"\ntraining: [\d.]+ kB of disk, [\d.]+ [MG]B of memory; "
        r"[\d.e+]+ floating-point operations, on this machine \d+ s"
    )
    assert re.search(pattern, capsys.readouterr().err)


def test_a_head_that_fails_while_it_is_timed_does_not_stop_the_training(folder, backbone, monkeypatch, capsys):
    folder(backbone)

    def fails(*arguments):
        raise MemoryError

    monkeypatch.setattr("train.training_work.measure_steps", fails)
    assert run_command(main, ["try.yaml", "seeds=[0]"]) == 0
    assert "disk, memory and time cannot be estimated: the machine is out of memory; " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("axis", "stored", "total"),
    [
        ("heads.out_features: [4, 8, 12]", [False, True, True], "2 min 2 s"),  # one pass over the tests serves all
        ('trainable: ["head", "top-1", "all"]', [False, False, False], "2 min 24 s"),
        ("max_pairs: [8, 16]", [False, False], "1 min 25 s"),  # the backbone is the same
        ("heads.out_features: [4]", [False], None),
    ],
)
def test_a_dry_run_adds_up_the_points_of_the_axes(folder, backbone, monkeypatch, capsys, axis, stored, total):
    folder(backbone)
    asked = []

    def describe(prepared, pending, tests, way, *, stored):
        asked.append(stored)
        return Duration([f"{len(pending)} trials"], 20.0, 11.0, 28.0)

    monkeypatch.setattr(forecast, "describe_training", describe)
    axes = f"axes={{{axis}}}"
    assert run_command(main, ["try.yaml", "heads.variants=[linear]", "seeds=[0]", axes, "--dry-run"]) == 0
    told = capsys.readouterr().err
    assert asked == stored
    key, _, values = axis.partition(": ")
    for value in values.strip("[]").split(", "):
        assert f"{key}={value}: 1 trials\n" in told
    last = f"all {len(stored)} points of the axes will take roughly {total}\n"
    assert told.endswith(last) if total else "points of the axes will take" not in told
