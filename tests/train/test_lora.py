import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from experiment.config.load import load_config
from experiment.disk.layout import ExperimentFolder
from projheads import build_head, fold_model
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
    generator = torch.Generator().manual_seed(0)
    for name, parameter in transformer.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5, generator=generator)
    adapted = model.encode(TEXTS, is_query=False)
    lora.merge_lora(transformer)
    merged = model.encode(TEXTS, is_query=False)
    assert set(transformer.state_dict()) == names
    for old, new, same in zip(before, merged, adapted, strict=True):
        np.testing.assert_allclose(new, same, atol=1e-4)
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


def encodings(folder):
    model = load_host("auto", model_folder=folder).load(str(folder))
    return [rows for is_query in (True, False) for rows in model.encode(TEXTS, is_query=is_query)]


@pytest.fixture
def adapter(peft, folder, backbone):
    return train(folder, backbone, "train.lora={rank: 2, save: adapter}", "output=adapter")


def test_a_trial_saved_as_an_adapter_is_small_and_computes_what_the_merged_one_does(adapter, folder, backbone):
    merged = train(folder, backbone, "train.lora={rank: 2}")
    for ours, theirs in zip(encodings(adapter.model), encodings(merged.model), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not list(adapter.model.glob("model*.safetensors"))
    shapes = [tensor.shape for tensor in load_file(adapter.model / "adapter_model.safetensors").values()]
    assert all(min(shape) == 2 for shape in shapes)  # matrices of rank 2, and the rows of two prefix tokens
    config = json.loads((adapter.model / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(backbone)
    assert adapter.read_trial().key != merged.read_trial().key


def test_an_adapter_names_its_backbone_as_the_hub_does(peft, folder, backbone, monkeypatch):
    """The copy on this machine is found by its name, and is not named itself."""
    monkeypatch.setattr("projheads.hosts.backbone._cached", lambda name, options: backbone if name == "a/b" else None)
    trial = train(folder, backbone, "train.lora={rank: 2, save: adapter}", "model.backbone=a/b")
    assert str(backbone) not in "".join(file.read_text() for file in trial.model.glob("*.json"))
    assert json.loads((trial.model / "adapter_config.json").read_text())["base_model_name_or_path"] == "a/b"
    assert encodings(trial.model)


def test_the_card_of_an_adapter_opens_it(adapter, monkeypatch):
    card = (adapter.model / "README.md").read_text()
    monkeypatch.chdir(adapter.path)
    assert "trained by LoRA of rank 2, saved as an adapter" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["documents"][0].shape[-1] == 8


def test_an_adapter_folds_into_a_model_of_the_host_alone(adapter, tmp_path):
    from projheads.hosts.model_folder import is_stock

    assert not is_stock(adapter.model)
    fold_model(adapter.model, tmp_path / "folded")
    assert is_stock(tmp_path / "folded")
    assert not (tmp_path / "folded" / "adapter_config.json").exists()
    for ours, theirs in zip(encodings(tmp_path / "folded"), encodings(adapter.model), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_an_adapter_that_cannot_be_merged_is_one_line(adapter, tmp_path, monkeypatch):
    host = load_host("auto", model_folder=adapter.model)

    def refused(match, change):
        copy = tmp_path / match.split()[0].strip(".*\\")
        shutil.copytree(adapter.model, copy)
        change(copy)
        with pytest.raises(ProjheadsError, match=match) as error:
            host.load(str(copy))
        assert "\n" not in str(error.value)

    def other_base(path):
        def change(copy):
            config = json.loads((copy / "adapter_config.json").read_text())
            (copy / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": path}))

        return change

    refused("gone.*no such folder", other_base("/nowhere/gone"))
    refused("names no base model", other_base(None))
    refused("adapter_model.safetensors: no such file", lambda copy: (copy / "adapter_model.safetensors").unlink())
    refused("cannot be opened", lambda copy: (copy / "adapter_model.safetensors").write_bytes(b"x" * 100))
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else real(name))
    refused("which needs peft; pip install peft", lambda copy: None)


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
    with pytest.raises(ProjheadsError, match=r"an adapter needs all layers; use `save: merged`"):
        load_config(Path("try.yaml"), ["train={trainable: all, lora: {save: adapter}, data: set}", "model.layer=1"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ProjheadsError, match=r"train.lora needs peft; pip install peft"):
        lora.check_peft()
