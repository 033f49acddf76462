"""A checkpoint that was tampered with is refused by the adapter and, where the head itself is it, by the plain host."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from projheads import ProjheadsError, build_head
from projheads.hosts.base import EncodingSettings
from projheads.hosts.model_folder import projections


def configured(**changes):
    def tamper(head):
        config = json.loads((head / "config.json").read_text()) | changes
        (head / "config.json").write_text(json.dumps(config))

    return tamper


def weighted(change):
    def tamper(head):
        weights = load_file(head / "model.safetensors")
        change(weights)
        save_file(weights, head / "model.safetensors")

    return tamper


def pickled(head):
    (head / "model.safetensors").unlink()
    (head / "pytorch_model.bin").write_bytes(pickle.dumps({"linear.weight": 1}))


def linked(head):
    elsewhere = head.parents[1] / "elsewhere.safetensors"
    (head / "model.safetensors").rename(elsewhere)
    (head / "model.safetensors").symlink_to(elsewhere)


TAMPERED = {
    "newer schema": (configured(schema_version=2), "install a newer projheads"),
    "wrong shape": (weighted(lambda w: w.update({"linear.weight": torch.ones(8, 31)})), "has the shape (8, 31)"),
    "extra tensor": (weighted(lambda w: w.update(extra=torch.ones(1))), "should not have extra"),
    "extra key": (configured(code="import os"), "must have exactly"),
    "NaN": (weighted(lambda w: w["linear.weight"].fill_(float("nan"))), "values that are not finite"),
    "huge width": (configured(out_features=10**13), "32 -> 10000000000000: takes over "),
    "link": (linked, "is a link that leads out of the model folder"),
    "pickle": (pickled, "weights are read from safetensors only, never from a pickle"),
    "pickle by the name of safetensors": (
        lambda head: (head / "model.safetensors").write_bytes(pickle.dumps({"a": 1})),
        "is not a safetensors file",
    ),
}


@pytest.fixture
def folder(host, backbone, tmp_path):
    model = host.create(
        str(backbone), build_head("linear", 32, 8), EncodingSettings(query_length=8, document_length=16)
    )
    model.native.save(str(tmp_path / "model"), create_model_card=False)  # as the host's own trainer saves it
    return tmp_path / "model"


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_head_is_refused_by_the_adapter_and_by_the_plain_host(host, folder, what):
    tamper, said = TAMPERED[what]
    tamper(folder / projections(folder)[0].path)
    for opens in (host.load, host.open_plain):
        with pytest.raises(ProjheadsError) as error:
            opens(str(folder))
        assert said in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["path", "link"])
def test_a_head_outside_the_checkpoint_is_refused(host, folder, how):
    entry = projections(folder)[0]
    (folder / entry.path).rename(folder.parent / "elsewhere")
    if how == "path":
        text = (folder / "modules.json").read_text()
        (folder / "modules.json").write_text(text.replace(entry.path, "../elsewhere"))
    else:
        (folder / entry.path).symlink_to(folder.parent / "elsewhere")
    with pytest.raises(ProjheadsError, match="leads out of the model folder"):
        host.load(str(folder))
