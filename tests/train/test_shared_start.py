from pathlib import Path

import numpy as np
import pytest

from experiment.config.load import load_config
from experiment.disk.layout import ExperimentFolder
from projheads import ProjheadsError
from projheads.hosts import load_host
from train.experiment import train_experiment

VARIANTS = [
    "linear",
    "ffn(depth=2)",
    "upscaled(residual=true)",
    "residual(inner=glu(activation=silu))",
    "glu(activation=silu)",
]
ALONE = VARIANTS[-1]
UNTRAINED = ("train.max_steps=1", "train.optimizer.head_lr=1e-12", "sweep={}")


def train(*overrides):
    config = load_config(Path("try.yaml"), ("heads.init=shared", f"heads.variants={VARIANTS}", *overrides))
    train_experiment(config)
    return ExperimentFolder(config.output)


def embeddings(model):
    opened = load_host("pylate").load(str(model))
    return np.concatenate(opened.encode(["the cat sat on a mat", "is the dog red?"], is_query=False))


def test_heads_of_a_seed_start_as_the_map_that_the_baseline_draws(folder, backbone, capsys):
    pytest.importorskip("pylate")
    folder(backbone)
    experiment = train(*UNTRAINED)
    found = {(trial.read_trial().head["name"], trial.read_trial().seed): trial for trial in experiment.trials()}
    start = {seed: embeddings(found["linear", seed].model) for seed in (0, 1)}
    assert np.abs(start[0] - start[1]).max() > 0.1
    for (name, seed), trial in found.items():
        record, difference = trial.read_trial(), np.abs(embeddings(trial.model) - start[seed]).max()
        assert (difference < 1e-5) == (name != "glu"), (name, difference)
        assert record.start_group == ("shared" if name != "glu" else record.label)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "does not share the start" in line]
    assert line.startswith(ALONE.replace("silu", '"silu"'))
    # The baseline, and the head on its own, start as without `shared`.
    plain = train(*UNTRAINED, "heads.init=torch", "output=plain")
    for trial in plain.trials():
        record = trial.read_trial()
        if record.head["name"] in ("linear", "glu"):
            same = found[record.head["name"], record.seed].model
            assert np.array_equal(embeddings(trial.model), embeddings(same))
        assert record.start_group == record.label


def test_a_different_baseline_is_a_different_start_and_a_nonlinear_one_is_refused(folder, backbone):
    folder(backbone)
    first = train("seeds=[0]")
    second = train("seeds=[0]", "heads.baseline=ffn(depth=2)", "output=second")
    for before, after in zip(first.trials(), second.trials(), strict=True):
        assert before.read_trial().key != after.read_trial().key
        assert after.read_trial().init == "shared"
    with pytest.raises(ProjheadsError, match=r"init: shared needs a linear baseline, whose map .* \(head glu"):
        load_config(Path("try.yaml"), ("heads.init=shared", "heads.variants=[glu]", "heads.baseline=glu"))
