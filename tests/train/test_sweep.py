import itertools
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
from train.trainer import Trainer

GRID = "sweep={optimizer.head_lr: [1e-9, 3e-2], schedule: [linear, constant], extend: 0}"


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


def score(done, record, point, seed):
    return done[record.slug, point, f"seed-{seed}"].validation["nDCG@10"]


def test_every_seed_gets_the_point_that_the_other_seeds_choose(folder, backbone, capsys):
    folder(backbone)
    seeds = "seeds=[0, 1, 2]"
    experiment = train(GRID, seeds)
    told = capsys.readouterr().out
    assert "24 trials (2 variants x 3 seeds x 4 points of the sweep) of 18 steps with 4 examples" in told
    done = candidates(experiment)
    assert len(done) == 24
    for trial in experiment.trials():
        record = trial.read_trial()
        sweep = record.sweep
        assert sweep.grid == {"optimizer.head_lr": [1e-9, 0.03], "schedule": ["linear", "constant"]}
        assert "nDCG@10" in sweep.measure
        others, everyone = {}, {}
        for point in sweep.points:
            lr, schedule = point.values.values()
            name = f"optimizer.head_lr={lr}-schedule={schedule}"
            assert point.seeds == {str(seed): score(done, record, name, seed) for seed in (0, 1, 2)}
            others[name] = np.mean([score for seed, score in point.seeds.items() if seed != str(record.seed)])
            everyone[name] = np.mean(list(point.seeds.values()))
        chosen = "-".join(f"{key}={value}" for key, value in sweep.chosen.items())
        assert others[chosen] == max(others.values()) > min(others.values())
        by_all = "-".join(f"{key}={value}" for key, value in sweep.chosen_by_all.items())
        assert everyone[by_all] == max(everyone.values())
        assert record.learning_rate == sweep.chosen["optimizer.head_lr"] == 0.03
        # Words have no order, so a schedule is never at an edge.
        assert sweep.at_edge == ["optimizer.head_lr"]
        twin = experiment.candidate(record.slug, chosen, record.seed)
        assert record.weights_hash == weights_hash(trial.model) == weights_hash(twin.model)
        assert (trial.model / "model.safetensors").samefile(twin.model / "model.safetensors")
        assert trial.train_jsonl.read_text() == twin.train_jsonl.read_text()
    before = stamps(experiment)
    assert stamps(train(GRID, seeds)) == before
    # A trial of the chosen point is the trial that an experiment without a sweep trains.
    chosen = experiment.trials()[0].read_trial().sweep.chosen
    plain = train("output=plain", "sweep={}", seeds, *(f"train.{key}={value}" for key, value in chosen.items()))
    assert weights(plain).items() & weights(experiment).items()


def test_a_seeds_own_score_does_not_choose_for_it(folder, backbone, monkeypatch):
    folder(backbone)
    options = ("sweep={optimizer.head_lr: [1e-3, 3e-2], extend: 0}", "seeds=[0, 1, 2]", "heads.variants=[linear]")
    train(*options)
    # Only seed 0 prefers the smaller rate, by so much that it decides the mean of all.
    for rate, values in {0.001: (0.99, 0.5, 0.5), 0.03: (0.1, 0.6, 0.6)}.items():
        for seed, value in enumerate(values):
            file = Path(f"out/sweep/linear/optimizer.head_lr={rate}/seed-{seed}/trial.json")
            record = TrialRecord.read(file)
            record.replace(validation={**record.validation, "nDCG@10": value}).write(file)
    records = [trial.read_trial() for trial in train(*options).trials()]
    assert [record.learning_rate for record in records] == [0.03, 0.001, 0.001]
    assert {record.sweep.chosen_by_all["optimizer.head_lr"] for record in records} == {0.001}


def test_a_grid_grows_at_its_edge_and_further_seeds_are_trained_at_the_choice(folder, backbone, capsys):
    folder(backbone)
    options = ("sweep={optimizer.head_lr: [1e-5, 1e-4], seeds: 2}", "seeds=[0, 1, 2]")
    experiment = train(*options)
    assert "10 trials (2 variants x 3 seeds x 2 points of the sweep for 2 of the seeds)" in capsys.readouterr().out
    trained = candidates(experiment)
    for trial in experiment.trials():
        record = trial.read_trial()
        grid = record.sweep.grid["optimizer.head_lr"]
        assert grid == sorted(grid)
        assert len(grid) == 4 or not record.sweep.at_edge
        assert len(grid) > 2
        assert all(larger == pytest.approx(10 * smaller) for smaller, larger in itertools.pairwise(grid))
        assert set(record.sweep.points[0].seeds) == {"0", "1"}
        third = {point for variant, point, seed in trained if (variant, seed) == (record.slug, "seed-2")}
        assert third == {f"optimizer.head_lr={record.sweep.chosen_by_all['optimizer.head_lr']}"}
        if record.seed == 2:
            assert record.sweep.chosen == record.sweep.chosen_by_all
    assert weights(train(*options, "output=again")) == weights(experiment)
    before = stamps(experiment)
    assert stamps(train(*options)) == before


@pytest.mark.parametrize("after", [3, 11])
def test_a_sweep_that_is_killed_ends_with_the_same_bytes(folder, backbone, monkeypatch, after):
    folder(backbone)
    options = ("sweep={optimizer.head_lr: [1e-4, 1e-3], seeds: 2}", "seeds=[0, 1, 2]", "train.max_steps=4")
    expected = train(*options, "output=expected")
    count = 0

    def stop(self, *arguments):
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        return train_one(self, *arguments)

    train_one = Trainer.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            train(*options)
    experiment = train(*options)
    assert weights(experiment) == weights(expected)
    assert candidates(experiment).keys() == candidates(expected).keys()
    sweeps = [[trial.read_trial().sweep for trial in one.trials()] for one in (experiment, expected)]
    assert sweeps[0] == sweeps[1]


def test_one_swept_seed_chooses_for_itself_and_that_is_said(folder, backbone, capsys):
    folder(backbone)
    train("sweep={optimizer.head_lr: [1e-3, 1e-2], extend: 0}", "seeds=[0]", "heads.variants=[linear]")
    assert "seed 0 chose for itself" in capsys.readouterr().out


def test_a_larger_grid_or_more_seeds_train_what_is_missing_and_choose_again(folder, backbone):
    folder(backbone)
    experiment = train("sweep={optimizer.head_lr: [1e-9, 1e-3], extend: 0}")
    before = stamps(experiment)
    train("sweep={optimizer.head_lr: [1e-9, 1e-3, 3e-2], extend: 0}", "seeds=[0, 1, 2]")
    after = stamps(experiment)
    assert len(candidates(experiment)) == 2 * 3 * 3
    assert all(after[path] == stamp for path, stamp in before.items() if "sweep" in path.parts)
    chosen = [trial.read_trial() for trial in experiment.trials()]
    assert [record.sweep.chosen_by_all["optimizer.head_lr"] for record in chosen] == [0.03] * 6
    assert all(record.learning_rate == record.sweep.chosen["optimizer.head_lr"] for record in chosen)
    assert weights(experiment) == weights(
        train("sweep={optimizer.head_lr: [1e-9, 1e-3, 3e-2], extend: 0}", "seeds=[0, 1, 2]", "output=o2")
    )
    # Without the sweep the folder is that of an ordinary experiment again.
    train("seeds=[0, 1, 2]", "sweep={}")
    assert all(trial.read_trial().sweep is None for trial in experiment.trials())


def test_a_point_that_fails_is_recorded_and_never_chosen(folder, backbone, capsys):
    folder(backbone)
    experiment = train("sweep={loss.temperature: [1e-40, 1.0], extend: 0}", "seeds=[0]")
    record = experiment.trials()[0].read_trial()
    assert record.status == "finished"
    assert record.sweep.chosen == {"loss.temperature": 1.0}
    failed, fine = record.sweep.points
    assert failed.seeds == {"0": None}
    assert "lower train.optimizer.head_lr" in failed.reasons["0"]
    assert fine.seeds["0"] > 0
    assert not fine.reasons
    assert "trials failed" not in capsys.readouterr().out
    hopeless = train("sweep={loss.temperature: [1e-40, 1e-41], extend: 0}", "seeds=[0]", "output=hopeless")
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
    experiment = train(*options, "sweep={optimizer.head_lr: [1e-9, 3e-2], extend: 0}")
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
    experiment = train("sweep={optimizer.head_lr: [1e-3, 3e-2], extend: 0}")
    expected, before = weights(experiment), {k: v for k, v in stamps(experiment).items() if "sweep" in k.parts}
    shutil.rmtree(experiment.trials()[0].path)
    train("sweep={optimizer.head_lr: [1e-3, 3e-2], extend: 0}")
    assert weights(experiment) == expected
    assert {k: v for k, v in stamps(experiment).items() if "sweep" in k.parts} == before


def test_a_batch_size_beyond_the_pairs_is_told_before_training(folder, backbone):
    folder(backbone)
    with pytest.raises(
        ProjheadsError, match=r"sweep: the 26 examples of train\.data are too few for one step at batch_size=64"
    ):
        train("sweep={batch_size: [4, 64]}")
