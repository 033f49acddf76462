from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModel

from experiment.config.load import load_config
from experiment.disk.layout import ExperimentFolder
from projheads import build_head
from projheads.errors import ProjheadsError
from projheads.hosts import available_hosts, load_host
from projheads.hosts.base import EncodingSettings
from train import lora
from train.embedding.states import transformer_of
from train.experiment import train_experiment

TEXTS = ["the cat sat on a mat", "what is red?"]
LORA = ("train.trainable=all", "train.optimizer.backbone_lr=3e-2", "sweep={}", "seeds=[0]")


@pytest.fixture
def peft():
    return pytest.importorskip("peft")


def train(folder, backbone, *overrides):
    folder(backbone)
    config = load_config(Path("try.yaml"), (*LORA, "heads.variants=[linear]", *overrides))
    assert train_experiment(config) == []
    (trial,) = ExperimentFolder(config.output).trials()
    return trial


def test_a_merged_model_computes_what_the_adapters_did(peft, backbone):
    host = load_host(available_hosts()[0])
    model = host.create(str(backbone), build_head("linear", 32, 8), EncodingSettings(query_length=12))
    transformer = transformer_of(model)
    before = model.encode(TEXTS, is_query=False)
    names = set(transformer.state_dict())
    lora.add_lora(transformer, load_lora(rank=2), seed=0)
    trained = {name for name, parameter in transformer.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    for name, parameter in transformer.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    adapted = model.encode(TEXTS, is_query=False)
    lora.merge_lora(transformer)
    merged = model.encode(TEXTS, is_query=False)
    assert set(transformer.state_dict()) == names
    for old, new, same in zip(before, merged, adapted, strict=True):
        np.testing.assert_allclose(new, same, atol=1e-5)
        assert not np.allclose(old, new, atol=1e-2)


def load_lora(**options):
    from experiment.config.train_section import LoraSection

    return LoraSection(**options)


def test_a_trial_saves_a_plain_model_in_which_only_the_targets_changed(peft, folder, backbone):
    trial = train(folder, backbone, "train.lora={rank: 2, targets: [query, value]}")
    saved, original = (AutoModel.from_pretrained(path).state_dict() for path in (trial.model, backbone))
    grown = "embeddings.word_embeddings.weight"  # it has rows for the prefix tokens
    changed = {name for name in original.keys() - {grown} if not np.array_equal(saved[name], original[name])}
    assert changed
    assert all(name.endswith(("query.weight", "value.weight")) for name in changed)
    assert load_host("auto", model_folder=trial.model).load(str(trial.model)).encode(TEXTS, is_query=True)
    assert "trained by LoRA of rank 2" in (trial.model / "README.md").read_text()


def test_a_stopped_trial_resumes_with_the_same_weights(peft, folder, backbone, monkeypatch):
    from train.resume import ResumePoint

    options = ("train.lora={rank: 2}", "train.resume_every=2", "train.epochs=2")
    whole = train(folder, backbone, *options).read_trial().weights_hash
    save = ResumePoint.save

    def stop(self, step, *arguments):
        save(self, step, *arguments)
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(ResumePoint, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        train(folder, backbone, *options, "output=again")
    monkeypatch.setattr(ResumePoint, "save", save)
    assert train(folder, backbone, *options, "output=again").read_trial().weights_hash == whole


def test_targets_that_do_not_exist_are_one_line(peft, backbone):
    host = load_host(available_hosts()[0])
    model = host.create(str(backbone), build_head("linear", 32, 8), EncodingSettings(query_length=12))
    with pytest.raises(ProjheadsError, match=r"train\.lora\.targets: .*nothing") as error:
        lora.add_lora(transformer_of(model), load_lora(targets=("nothing",)), seed=0)
    assert "\n" not in str(error.value)


def test_what_lora_needs(folder, backbone, monkeypatch):
    folder(backbone)
    with pytest.raises(ProjheadsError, match="lora adapts the backbone, which is frozen"):
        load_config(Path("try.yaml"), ["train.lora={rank: 2}"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ProjheadsError, match=r"train.lora needs peft; pip install peft"):
        lora.check_peft()
