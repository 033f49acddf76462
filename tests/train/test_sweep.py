import shutil
from pathlib import Path

import numpy as np
import pytest

from experiment.config.load import load_config
from experiment.disk.layout import ExperimentFolder
from experiment.disk.models import weights_hash
from experiment.disk.records import TrialRecord
from projheads.errors import ProjheadsError
from train.experiment import train_experiment

GRID = "sweep={optimizer.head_lr: [1e-9, 3e-2], schedule: [linear, constant]}"


def train(*overrides):
    config = load_config(Path("try.yaml"), ("train.validation_pairs=6", "train.epochs=3", *overrides))
    train_experiment(config)
    return ExperimentFolder(config.output)


def candidates(experiment):
    found = {}
    for path in sorted(experiment.path.glob("sweep/*/*/seed-*/trial.json")):
        variant, point, seed = path.relative_to(experiment.path / "sweep").parts[:3]
        found[variant, point, seed] = TrialRecord.read(path)
    return found


def stamps(experiment):
    files = [*experiment.path.glob("sweep/*/*/*/trial.json"), *experiment.path.glob("trials/*/*/trial.json")]
    return {path: path.stat().st_mtime_ns for path in files}


def weights(experiment):
    return {trial.path.relative_to(experiment.path): weights_hash(trial.model) for trial in experiment.trials()}


def test_every_variant_gets_the_point_that_is_best_on_held_out_pairs(folder, backbone, capsys):
    folder(backbone)
    experiment = train(GRID)
    told = capsys.readouterr().out
    assert "16 trials (2 variants x 2 seeds x 4 points of the sweep) of 18 steps with 4 examples" in told
    done = candidates(experiment)
    assert len(done) == 16
    for trial in experiment.trials():
        record = trial.read_trial()
        sweep = record.sweep
        assert sweep.grid == {"optimizer.head_lr": [1e-9, 0.03], "schedule": ["linear", "constant"]}
        assert "nDCG@10" in sweep.measure
        means = {}
        for point in sweep.points:
            lr, schedule = point.values.values()
            name = f"optimizer.head_lr={lr}-schedule={schedule}"
            for seed in (0, 1):
                theirs = done[record.slug, name, f"seed-{seed}"].validation["nDCG@10"]
                assert point.seeds[str(seed)] == theirs
            means[lr, schedule] = np.mean(list(point.seeds.values()))
        chosen = tuple(sweep.chosen.values())
        assert means[chosen] == max(means.values()) > min(means.values())
        assert chosen[0] == record.learning_rate == 0.03
        # Words have no order, so a schedule is never at an edge.
        assert sweep.at_edge == ["optimizer.head_lr"]
        twin = experiment.candidate(record.slug, f"optimizer.head_lr={chosen[0]}-schedule={chosen[1]}", record.seed)
        assert record.weights_hash == weights_hash(trial.model) == weights_hash(twin.model)
        assert (trial.model / "model.safetensors").samefile(twin.model / "model.safetensors")
        assert trial.train_jsonl.read_text() == twin.train_jsonl.read_text()
    before = stamps(experiment)
    assert stamps(train(GRID)) == before
    # A trial of the chosen point is the trial that an experiment without a sweep trains.
    chosen = experiment.trials()[0].read_trial().sweep.chosen
    plain = train("output=plain", *(f"train.{key}={value}" for key, value in chosen.items()))
    assert weights(plain).items() & weights(experiment).items()


def test_a_larger_grid_or_more_seeds_train_what_is_missing_and_choose_again(folder, backbone):
    folder(backbone)
    experiment = train("sweep={optimizer.head_lr: [1e-9, 1e-3]}")
    before = stamps(experiment)
    train("sweep={optimizer.head_lr: [1e-9, 1e-3, 3e-2]}", "seeds=[0, 1, 2]")
    after = stamps(experiment)
    assert len(candidates(experiment)) == 2 * 3 * 3
    assert all(after[path] == stamp for path, stamp in before.items() if "sweep" in path.parts)
    chosen = [trial.read_trial() for trial in experiment.trials()]
    assert [record.learning_rate for record in chosen] == [0.03] * 6
    assert weights(experiment) == weights(
        train("sweep={optimizer.head_lr: [1e-9, 1e-3, 3e-2]}", "seeds=[0, 1, 2]", "output=o2")
    )
    # Without the sweep the folder is that of an ordinary experiment again.
    train("seeds=[0, 1, 2]")
    assert all(trial.read_trial().sweep is None for trial in experiment.trials())


def test_a_point_that_fails_is_recorded_and_never_chosen(folder, backbone, capsys):
    folder(backbone)
    experiment = train("sweep={loss.temperature: [1e-40, 1.0]}", "seeds=[0]")
    record = experiment.trials()[0].read_trial()
    assert record.status == "finished"
    assert record.sweep.chosen == {"loss.temperature": 1.0}
    failed, fine = record.sweep.points
    assert failed.seeds == {"0": None}
    assert "lower train.optimizer.head_lr" in failed.reasons["0"]
    assert fine.seeds["0"] > 0
    assert not fine.reasons
    assert "trials failed" not in capsys.readouterr().out
    hopeless = train("sweep={loss.temperature: [1e-40, 1e-41]}", "seeds=[0]", "output=hopeless")
    for trial in hopeless.trials():
        record = trial.read_trial()
        assert (record.status, record.sweep.chosen, record.weights_hash) == ("failed", None, None)
        assert record.error.startswith("training failed at every point of the sweep; step 1")
    told = capsys.readouterr().out
    assert "linear: FAILED at every point of the sweep" in told
    assert "2 of 2 trials failed" in told


def test_models_of_a_trained_backbone_are_kept_for_the_chosen_point_alone(folder, backbone):
    folder(backbone)
    options = ("train.trainable=all", "seeds=[0]", "heads.variants=[linear]", "train.epochs=1")
    experiment = train(*options, "sweep={optimizer.head_lr: [1e-9, 3e-2]}")
    (trial,) = experiment.trials()
    chosen = trial.read_trial().learning_rate
    models = list(experiment.path.glob("sweep/*/*/seed-*/model"))
    assert [model.parts[-3] for model in models] == [f"optimizer.head_lr={chosen}"]
    # With a grid that leaves the winner out, the model that was deleted is made again, with the same bytes.
    other = ({1e-9, 0.03} - {chosen}).pop()
    first = next(path for path in candidates(experiment).values() if path.learning_rate == other)
    train(*options, f"sweep={{optimizer.head_lr: [{other}]}}")
    assert trial.read_trial().learning_rate == other
    assert trial.read_trial().weights_hash == weights_hash(trial.model) == first.weights_hash


def test_a_lost_trial_is_published_again_without_training(folder, backbone):
    folder(backbone)
    experiment = train("sweep={optimizer.head_lr: [1e-3, 3e-2]}")
    expected, before = weights(experiment), {k: v for k, v in stamps(experiment).items() if "sweep" in k.parts}
    shutil.rmtree(experiment.trials()[0].path)
    train("sweep={optimizer.head_lr: [1e-3, 3e-2]}")
    assert weights(experiment) == expected
    assert {k: v for k, v in stamps(experiment).items() if "sweep" in k.parts} == before


def test_a_batch_size_beyond_the_pairs_is_told_before_training(folder, backbone):
    folder(backbone)
    with pytest.raises(
        ProjheadsError, match=r"sweep: the 26 examples of train\.data are too few for one step at batch_size=64"
    ):
        train("sweep={batch_size: [4, 64]}")
