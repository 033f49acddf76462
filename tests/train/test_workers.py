"""``--workers``: trials and evaluations in several processes have the bytes of those in one."""

from contextlib import contextmanager
from pathlib import Path

import pytest

from eval.__main__ import main as evaluate
from experiment.config.load import load_config
from experiment.disk.layout import ExperimentFolder
from experiment.executors.pool import pool_executor
from projheads.errors import ProjheadsError
from tests.train.test_ray import results
from train.__main__ import main as train
from train.experiment import train_experiment
from train.processes import Processes


def test_two_workers_give_the_bytes_of_one_process(folder, backbone, capfd):
    folder(backbone)
    settings = ["try.yaml", "threads=1", "train.validations=1"]
    assert train([*settings, "output=several", "--workers", "2"]) == 0
    evaluate([*settings, "output=several", "--workers", "2"])
    said = capfd.readouterr().out
    assert "[4/4]" in said
    assert train([*settings, "output=one"]) == 0
    evaluate([*settings, "output=one"])
    one, several = (results(load_config(Path("try.yaml"), [f"output={name}"])) for name in ("one", "several"))
    assert [len(part) for part in one] == [4, 8]
    assert several == one


def test_trials_that_fail_in_a_worker_are_recorded(folder, backbone):
    folder(backbone)
    settings = ["try.yaml", "output=bad", "seeds=[0]", "train.loss.temperature=1e-40"]
    assert train([*settings, "--workers", "2"]) == 1
    records = [trial.read_trial() for trial in ExperimentFolder(Path("bad")).trials()]
    assert [record.status for record in records] == ["failed", "failed"]
    assert all("lower train.optimizer.head_lr" in record.error for record in records)


def test_a_launcher_and_workers_do_not_go_together(folder, backbone, monkeypatch):
    @contextmanager
    def two(device):
        yield Processes(1, 2), device

    folder(backbone)
    monkeypatch.setattr("train.experiment.join_processes", two)
    with pool_executor(2) as executor, pytest.raises(ProjheadsError, match="run them without a launcher"):
        train_experiment(load_config(Path("try.yaml")), executor)
