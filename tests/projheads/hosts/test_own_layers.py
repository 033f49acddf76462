"""Heads that are the host's own layers are saved as those: the plain host opens them, ours restores the head."""

import json

import numpy as np
import pytest
import torch

from projheads import ProjheadsError, build_head
from projheads.hosts.base import EncodingSettings
from projheads.hosts.model_folder import projections

TEXTS = ["What is the capital of France?", "a cat; a dog, a bird!", "", "the cat sat on the mat " * 12]
OWN = ["linear", "linear(bias=true)", 'ffn(activation="gelu", dropout=0.1)', "upscaled(residual=true)", "lateon"]
OTHERS = ["glu", "residual(inner=edge)"]


def make(host, backbone, spec):
    head = build_head(spec, 32, 8, generator=torch.Generator().manual_seed(1))
    return host.create(str(backbone), head, EncodingSettings(query_length=12, document_length=24))


def assert_same(first, second):
    for is_query in (True, False):
        for a, b in zip(first.encode(TEXTS, is_query=is_query), second.encode(TEXTS, is_query=is_query), strict=True):
            np.testing.assert_array_equal(a, b)


def content(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("spec", OWN)
def test_the_plain_host_opens_it_and_the_adapter_restores_the_head(host, backbone, tmp_path, spec):
    model = make(host, backbone, spec)
    modules = list(model.native)
    model.save(tmp_path / "model")
    assert list(model.native) == modules
    assert "projheads" not in (tmp_path / "model" / "modules.json").read_text()
    assert_same(model, host.open_plain(tmp_path / "model"))
    loaded = host.load(tmp_path / "model")
    assert loaded.head.spec == model.head.spec
    assert_same(model, loaded)
    loaded.save(tmp_path / "again")
    assert content(tmp_path / "again") == content(tmp_path / "model")


@pytest.mark.parametrize("spec", OTHERS)
def test_other_heads_are_saved_as_modules_of_ours(host, backbone, tmp_path, spec):
    make(host, backbone, spec).save(tmp_path / "model")
    assert "projheads" in (tmp_path / "model" / "modules.json").read_text()
    assert host.load(tmp_path / "model").head.spec == build_head(spec, 32, 8).spec


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"head": "ffn"}, "the layers of this folder are not those of ffn"),
        ({"options": {"activation": "relu"}}, "the layers of this folder are not those of linear"),
        ({"out_features": 9}, "the layers of this folder are not those of linear"),
        ({"out_features": 10**13}, "takes over .* of memory"),
        ({"head": "no_such_head"}, "pass it with --heads FILE"),
    ],
)
def test_a_name_that_does_not_fit_the_layers_is_refused(host, backbone, tmp_path, change, said):
    make(host, backbone, "linear").save(tmp_path)
    file = tmp_path / projections(tmp_path)[0].path / "head.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ProjheadsError, match=said) as error:
        host.load(tmp_path)
    assert "\n" not in str(error.value)
