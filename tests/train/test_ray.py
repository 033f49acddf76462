import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from eval.evaluate import evaluate_experiment
from experiment.config.load import load_config
from experiment.console.progress import Progress
from experiment.disk.layout import ExperimentFolder
from experiment.disk.models import weights_hash
from projheads.errors import ProjheadsError
from train.__main__ import main
from train.experiment import train_experiment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for the worker processes in /proc")
SETTINGS = ("threads=1", "train.epochs=40", "train.validations=1")


@pytest.fixture
def cluster():
    pytest.importorskip("ray")
    from experiment.executors.ray_cluster import ray_executor

    with ray_executor(None) as executor:
        yield executor


def busy_workers(folder):
    """Process ids of the Ray workers that do a part of the experiment in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title, where = (process / "cmdline").read_bytes(), (process / "cwd").readlink()
        except OSError:
            continue
        if title.startswith(b"ray::_do") and where == folder:
            found.append(int(process.name))
    return found


def kill_a_worker(folder, killed, stop):
    """Kill a worker that has a trial under way, once another trial is finished."""
    while not stop.is_set() and not killed:
        if list(folder.glob("out/trials/*/*/trial.json")) and (busy := busy_workers(folder)):
            time.sleep(0.2)
            for process in busy[:1]:
                if process in busy_workers(folder):
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
        time.sleep(0.02)


def results(config):
    """Weights by trial and the bytes of the run files."""
    trials = ExperimentFolder(config.output).trials()
    weights = {trial.path.relative_to(config.output): weights_hash(trial.model) for trial in trials}
    runs = {path.relative_to(config.output): path.read_bytes() for path in config.output.rglob("*.run")}
    return weights, runs


def test_a_killed_worker_is_replaced_and_the_results_are_those_of_one_process(folder, backbone, cluster, capfd):
    where = folder(backbone)
    spread = load_config(Path("try.yaml"), SETTINGS)
    killed, stop = [], threading.Event()
    killer = threading.Thread(target=kill_a_worker, args=(where, killed, stop))
    killer.start()
    try:
        train_experiment(spread, cluster)
    finally:
        stop.set()
        killer.join()
    assert killed
    told = capfd.readouterr().out
    assert told.count("its worker was lost; retrying") == 1
    assert "[4/4]" in told
    assert not list(spread.output.rglob(".*.tmp"))
    evaluate_experiment(spread, Progress(quiet=True), cluster)

    alone = load_config(Path("try.yaml"), (*SETTINGS, "output=alone"))
    train_experiment(alone)
    evaluate_experiment(alone, Progress(quiet=True))
    assert [len(part) for part in results(alone)] == [4, 8]
    assert results(spread) == results(alone)

    # Trials that fail in a worker are written as failed.
    bad = load_config(Path("try.yaml"), (*SETTINGS, "output=bad", "seeds=[0]", "train.loss.temperature=1e-40"))
    train_experiment(bad, cluster)
    records = [trial.read_trial() for trial in ExperimentFolder(bad.output).trials()]
    assert [record.status for record in records] == ["failed", "failed"]
    assert all("lower train.optimizer.head_lr" in record.error for record in records)


def test_what_no_machine_has_is_told_where_ray_would_wait_for_ever():
    from experiment.executors.ray_cluster import check_resources

    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    check_resources(nodes, threads=8, gpus=0)
    check_resources(nodes, threads=2, gpus=1)
    with pytest.raises(ProjheadsError, match="no machine of the cluster has the 8 CPU threads and 1 GPUs"):
        check_resources(nodes, threads=8, gpus=1)


def test_ray_is_asked_for_and_not_there(folder, backbone, monkeypatch):
    folder(backbone)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ProjheadsError, match="Ray is not installed; pip install --group ray"):
        main(["try.yaml", "--executor", "ray"])
    with pytest.raises(ProjheadsError, match="add --executor ray"):
        main(["try.yaml", "--address", "auto"])
