import json
from pathlib import Path

import pytest

from experiment.config.load import load_config
from experiment.disk.layout import ExperimentFolder
from experiment.disk.records import read_train_lines
from projheads.errors import ProjheadsError
from train.experiment import train_experiment
from train.resume import ResumePoint

STAGES = "train.next_stages=[{data: taught.jsonl, loss: kl, epochs: 2, optimizer: {head_lr: 3e-4}}]"


@pytest.fixture
def config(folder, backbone):
    folder(backbone)
    rows = [
        {"query": f"what runs {i}", "documents": [f"a dog {i}", f"a cat {i}"], "scores": [1.0, i / 20]}
        for i in range(16)
    ]
    Path("taught.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = ("sweep={}", "seeds=[0]", "heads.variants=[linear]", "train.validation_pairs=0", "train.log_every=1")
    return lambda *overrides: load_config(Path("try.yaml"), (*plain, *overrides))


def train(config):
    assert train_experiment(config) == []
    (trial,) = ExperimentFolder(config.output).trials()
    return trial


@pytest.mark.parametrize("trainable", ["head", "top-1", "all"])
def test_stages_are_trained_one_after_the_other(config, trainable):
    trial = train(config(STAGES, f"train.trainable={trainable}"))
    alone = train(config(f"train.trainable={trainable}", "output=alone"))
    lines = read_train_lines(trial.train_jsonl)
    first = [line for line in lines if line.stage == 1]
    second = [line for line in lines if line.stage == 2]
    assert [line.step for line in lines] == list(range(1, 8 + 2 * 4 + 1))
    assert (len(first), len(second)) == (8, 8)
    assert [line.loss for line in first] == [line.loss for line in read_train_lines(alone.train_jsonl)]
    assert max(line.learning_rate for line in second) == pytest.approx(3e-4)
    assert trial.read_trial().steps == 16
    assert trial.read_trial().weights_hash != alone.read_trial().weights_hash
    assert not trial.resume.exists()
    assert "Then: taught.jsonl, 16 examples, loss kl." in (trial.model / "README.md").read_text()


@pytest.mark.parametrize("stop_at", [3, 8, 11])
def test_a_trial_resumes_in_the_stage_where_it_was_stopped(config, monkeypatch, stop_at):
    options = (STAGES, "train.resume_every=1")
    whole = train(config(*options))
    saved = []
    save = ResumePoint.save

    def stop(self, step, *arguments):
        save(self, step, *arguments)
        saved.append(step)
        if len(saved) == stop_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(ResumePoint, "save", stop)
    again = config(*options, "output=again")
    with pytest.raises(KeyboardInterrupt):
        train_experiment(again)
    trial = train(again)
    assert len(saved) == 8 + 7  # no step was trained twice; the last one needs no resume point
    assert trial.read_trial().weights_hash == whole.read_trial().weights_hash
    losses = [[line.loss for line in read_train_lines(one.train_jsonl)] for one in (trial, whole)]
    assert losses[0] == losses[1]


def test_the_stages_belong_to_the_key(config):
    first = train(config(STAGES)).read_trial().key
    other = train(config(STAGES.replace("epochs: 2", "epochs: 1"), "output=other")).read_trial().key
    assert first != other


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("{trainable: all}", r"next_stages\.0\.trainable: is the same for all stages"),
        ("{loss: kl}", r"next_stages\.0.*needs teacher scores"),
        ("{epoch: 3}", r"next_stages\.0\.epoch: Extra inputs"),
        ("{epochs: 0}", r"next_stages\.0\.epochs: Input should be greater"),
    ],
)
def test_mistakes_in_a_stage(config, stage, words):
    with pytest.raises(ProjheadsError, match=words) as error:
        config(f"train.next_stages=[{stage}]")
    assert "\n" not in str(error.value)


def test_stages_are_not_swept(config):
    with pytest.raises(ProjheadsError, match=r"train.next_stages is the same for all trials"):
        config("sweep={next_stages: [[], [{epochs: 2}]]}")


def test_the_share_of_clipped_steps_is_of_all_stages(config):
    options = (STAGES.replace("epochs: 2", "epochs: 2, max_grad_norm: 1e6"), "train.max_grad_norm=1e-6")
    assert train(config(*options)).read_trial().train.clipped == 8 / 16
