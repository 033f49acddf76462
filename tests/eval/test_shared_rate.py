"""The sweep's trials at the shared learning rate are evaluated too, in their own folders."""

import json
import shutil

from eval.evaluate import evaluate_experiment
from eval.subjects import list_shared
from experiment.console.progress import Progress

SWEEP = "sweep={optimizer.head_lr: [3e-4, 1e-3], seeds: 1}"


def test_trials_at_the_shared_rate_are_evaluated_without_a_stand_in(miniature):
    for slug in ("linear", "ffn-activation=gelu"):
        for rate in (0.0003, 0.001):
            twin = miniature.folder.candidate(slug, f"optimizer.head_lr={rate}", 0)
            shutil.copytree(miniature.folder.trial(slug, 1).path, twin.path)
    with Progress() as progress:
        evaluate_experiment(miniature.config(SWEEP), progress)
    found = sorted(miniature.folder.path.glob("sweep/*/*/seed-*/eval/odd.json"))
    assert [file.parts[-4:-2] for file in found] == [("optimizer.head_lr=0.001", "seed-0")] * 2
    for file in found:
        shared = json.loads(file.read_text())
        own = json.loads(miniature.folder.trial(file.parts[-5], 1).eval_json("odd").read_text())
        assert shared["measures"] == own["measures"]
        assert shared["linearised"] is None
    assert [subject.role for subject in list_shared(miniature.config(SWEEP))] == ["shared", "shared"]
    # A seed that uses the shared rate anyway is evaluated once.
    shutil.copytree(
        miniature.folder.trial("linear", 1).path, miniature.folder.trial("linear", 0).path, dirs_exist_ok=True
    )
    assert [subject.name for subject in list_shared(miniature.config(SWEEP))] == [
        'ffn(activation="gelu") seed 0 at optimizer.head_lr=0.001'
    ]
    for off in ("eval.shared_rate=false", "train.optimizer.head_lr=2e-3", "sweep={}"):
        assert not list_shared(miniature.config(SWEEP, off))
