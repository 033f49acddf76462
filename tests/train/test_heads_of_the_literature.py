"""Experiments with the starts, options and heads of the structured-layer literature."""

from pathlib import Path

import numpy as np
import pytest

from experiment.config.load import load_config
from experiment.disk.layout import ExperimentFolder
from projheads.hosts import load_host
from train.experiment import train_experiment


def train(*overrides):
    config = load_config(Path("try.yaml"), ("seeds=[0]", "train.max_steps=2", *overrides))
    assert train_experiment(config) == []
    return [(trial, trial.read_trial()) for trial in ExperimentFolder(config.output).trials()]


@pytest.mark.parametrize("init", ["svd", "svd-plain", "centred-pca", "critical"])
def test_starts_from_data(folder, backbone, init):
    folder(backbone)
    trials = train(f"heads.init={init}", "heads.variants=[linear(bias=true), ffn(bias=true)]",
                   "heads.baseline=linear(bias=true)")  # fmt: skip
    assert {record.init for _, record in trials} == {init}


def test_guided_and_routed_heads_are_saved_as_their_constructors_make_them(folder, backbone):
    folder(backbone)
    trials = train("heads.variants=[linear, 'structured(kind=\"block_shuffle\", guide=0.7)', moe]")
    for trial, record in trials:
        opened = load_host(record.host).load(str(trial.model))
        assert str(opened.head.spec) == record.label
        assert record.inference_multiply_adds <= record.multiply_adds


def test_the_layer_that_heads_read_is_an_axis(folder, backbone):
    folder(backbone)
    trials = train("axes={model.layer: [1, 2]}", "heads.variants=[linear]")
    sizes = {record.axes["model.layer"]: len(list(load_host(record.host).load(str(trial.model)).backbone_parameters()))
             for trial, record in trials}  # fmt: skip
    assert sizes[1] < sizes[2]
    embeddings = [
        np.concatenate(load_host(record.host).load(str(trial.model)).encode(["the cat sat"], is_query=False))
        for trial, record in trials
    ]
    assert not np.allclose(*embeddings, atol=0.01)
    assert len({record.key for _, record in trials}) == 2
