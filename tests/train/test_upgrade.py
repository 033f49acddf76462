"""Experiments that start from a trained ColBERT: a tiny one is trained, then upgraded, in the real host."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from experiment.collections import Document, write_beir_folder
from experiment.config.load import load_config
from experiment.disk.layout import ExperimentFolder
from projheads import ProjheadsError, build_head
from projheads.hosts import available_hosts, load_host
from projheads.hosts.base import EncodingSettings
from train.experiment import train_experiment

TEXTS = ["what walk the cat", "the dog sat on a mat, is it red?", ""]
YAML = """\
output: {name}
cache: cache
seeds: [0]
device: cpu
model: {{host: {host}, backbone: {backbone}, query_length: 12, document_length: 16}}
heads: {{out_features: 8, init: torch, variants: [linear]}}
train: {{data: set, batch_size: 4, validation_pairs: 4, optimizer: {{head_lr: 0.02}}}}
sweep: {{}}
eval: {{datasets: [set]}}
"""


def train(name, host, backbone, *overrides):
    file = Path(f"{name}.yaml")
    file.write_text(YAML.format(name=name, host=host, backbone=backbone))
    train_experiment(load_config(file, overrides))
    return ExperimentFolder(Path(name))


@pytest.fixture(scope="module", params=available_hosts())
def first(request, tmp_path_factory, backbone):
    """The host, the folder of a ColBERT that was trained with it, and the collection."""
    folder = tmp_path_factory.mktemp("first")
    words = [(noun, verb) for noun in ("cat", "dog", "bird", "paris", "rain") for verb in ("sat", "run", "walk", "is")]
    corpus = [Document(f"d{i}", noun, f"the {noun} {verb} on a mat") for i, (noun, verb) in enumerate(words)]
    queries = {f"q{i}": f"what {verb} the {noun}" for i, (noun, verb) in enumerate(words)}
    qrels = {f"q{i}": {f"d{i}": 1} for i in range(len(words))}
    write_beir_folder(folder / "set", corpus, queries, {"train": qrels, "test": qrels})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return request.param, folder / train("first", request.param, backbone).trials()[0].model, folder / "set"


@pytest.fixture
def trained(first, tmp_path, monkeypatch):
    """The host and the trained model, in a separate folder."""
    host, model, collection = first
    monkeypatch.chdir(tmp_path)
    Path("set").symlink_to(collection)
    return host, model


def embeddings(host, model):
    opened = load_host(host).load(str(model))
    return [row for query in (True, False) for row in opened.encode(TEXTS, is_query=query)]


def largest_difference(first, second):
    return max(float(np.abs(a - b).max()) for a, b in zip(first, second, strict=True))


def test_every_upgraded_head_starts_from_the_trained_models_embeddings(trained):
    host, model = trained
    expected = embeddings(host, model)
    variants = ["linear", "lateon", "pylate_gelu", "residual(inner=glu(activation=silu))"]
    without_a_step = ["train.max_steps=1", "train.optimizer.head_lr=1e-12"]
    still = train("still", host, model, "heads.init=preserve", f"heads.variants={variants}", *without_a_step)
    assert len(still.trials()) == len(variants)
    for trial in still.trials():
        assert largest_difference(embeddings(host, trial.model), expected) < 1e-5, trial.path
    assert largest_difference(embeddings(host, still.reference("untrained").model), expected) < 1e-5
    moved = train("moved", host, model, "heads.init=preserve", "heads.variants=[linear, lateon]")
    assert all(largest_difference(embeddings(host, trial.model), expected) > 1e-3 for trial in moved.trials())


def test_a_wider_head_begins_with_the_trained_outputs(trained):
    host, model = trained
    expected = embeddings(host, model)
    settings = ["heads.init=preserve", "heads.out_features=12", "train.max_steps=1", "train.optimizer.head_lr=1e-12"]
    (trial,) = train("wide", host, model, *settings).trials()
    found = [rows[:, :8] for rows in embeddings(host, trial.model)]
    found = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in found]
    assert largest_difference(found, expected) < 1e-5


def test_another_checkpoint_is_another_trial(trained):
    """The key of a trial names the map that its head starts from, though backbone and configuration are the same."""
    host, model = trained
    shutil.copytree(model, "start")
    before = train("upgraded", host, "start", "heads.init=preserve").trials()[0].read_trial()
    weights = next(Path("start").glob("1_*/model.safetensors"))
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights)
    after = train("upgraded", host, "start", "heads.init=preserve").trials()[0].read_trial()
    assert before.key != after.key


def test_the_hosts_own_dense_is_gone_on_from(trained, backbone):
    host, _ = trained
    adapter = load_host(host)
    head = build_head("lateon", 32, 8)
    settings = EncodingSettings(query_length=12, document_length=16)
    model = adapter.create(str(backbone), head, settings)
    projection = next(i for i, module in enumerate(model.native) if getattr(module, "head", None) is head)
    del model.native[projection]
    for place, dense in enumerate(adapter.to_dense_chain(head)):
        model.native.insert(projection + place, dense)
    model.native.save("chain")
    expected = embeddings(host, "chain")
    still = train("still", host, "chain", "heads.init=preserve", "train.max_steps=1", "train.optimizer.head_lr=1e-12")
    assert largest_difference(embeddings(host, still.trials()[0].model), expected) < 1e-5


def test_code_of_a_backbone_does_not_run_without_trust(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    host, model = trained
    shutil.copytree(model, "evil")
    Path("evil/evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    modules = json.loads(Path("evil/modules.json").read_text())
    modules[1]["type"] = "evil.Dense"
    Path("evil/modules.json").write_text(json.dumps(modules))
    for init in ("preserve", "torch"):
        with pytest.raises(ProjheadsError, match=r'names the class "evil\.Dense", whose code would run'):
            train("out", host, "evil", f"heads.init={init}")
    assert not (tmp_path / "ran").exists()


def test_what_can_not_go_on_is_refused_before_anything_is_trained(trained, backbone):
    host, model = trained
    with pytest.raises(ProjheadsError, match=r"has no projection head, from which heads\.init: preserve starts"):
        train("bare", host, backbone, "heads.init=preserve")
    with pytest.raises(ProjheadsError, match=r"heads\.out_features: is 4, but the head of .* has 8"):
        train("narrow", host, model, "heads.init=preserve", "heads.out_features=4")
    with pytest.raises(ProjheadsError) as error:
        train("refused", host, model, "heads.init=preserve", "heads.variants=[linear, ffn(hidden_features=7), edge]")
    assert str(error.value) == (
        "heads.variants: head ffn(hidden_features=7) cannot take over a linear map: "
        "layer 1 is 7 wide; carrying the map needs 8"
    )
    nonlinear = train("curved", host, backbone, 'heads.variants=["ffn(activation=gelu)"]',
                      'heads.baseline="ffn(activation=gelu)"').trials()[0].model  # fmt: skip
    with pytest.raises(ProjheadsError, match="does not fold into one matrix because of the activation gelu"):
        train("onwards", host, nonlinear, "heads.init=preserve")
    assert not any(Path(name).joinpath("trials").exists() for name in ("bare", "narrow", "refused", "onwards"))


@pytest.mark.parametrize("init", ["preserve", "pca"])
def test_forms_that_take_over_no_map_are_refused_by_the_configuration(init, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(YAML.format(name="x", host="auto", backbone="anything"))
    with pytest.raises(ProjheadsError) as error:
        load_config(file, [f"heads.init={init}", "heads.variants=[linear, glu, ffn(activation=tanh), paper_glu]"])
    told = str(error.value)
    assert "glu: head glu cannot take over a linear map: its gate is closed at 0" in told
    assert "ffn(activation=tanh) cannot take over a linear map: the activation tanh" in told.replace('"', "")
    assert "head paper_glu" not in told


def test_pca_starts_from_the_token_states_of_the_training_documents(trained, backbone):
    host, _ = trained
    heads = train("pca", host, backbone, "heads.init=pca", "train.max_steps=1", "train.optimizer.head_lr=1e-12")
    weight = load_host(host).load(str(heads.trials()[0].model)).head.linear.weight.detach().numpy()
    np.testing.assert_allclose(weight @ weight.T, np.eye(8), atol=1e-4)
