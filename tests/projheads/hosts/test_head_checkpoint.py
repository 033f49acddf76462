"""The two files of a head: written alike by every host, read strictly."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from projheads import HeadSpec, ProjheadsError, build_head, list_heads, list_presets
from projheads.hosts.checkpoint import load_head, read_modules, save_head

GOLDEN = Path(__file__).with_name("golden")


@pytest.mark.parametrize("spec", [*list_heads(), *list_presets(), 'residual(inner=glu(activation="silu"), scale=0.5)'])
def test_a_head_comes_back_as_it_was(tmp_path, spec):
    head = build_head(spec, 12, 8, generator=torch.Generator().manual_seed(7)).eval()
    save_head(head, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = load_head(tmp_path).eval()
    assert again.spec == head.spec == HeadSpec.parse(spec)
    x = torch.randn(5, 12)
    assert torch.equal(again(x), head(x))
    config = (tmp_path / "config.json").read_text()
    assert "projheads." not in config, "a dotted path would break when a head file is renamed"


def test_the_format_of_schema_1_stays_readable(tmp_path):
    """golden/head-schema-1 was written by save_head from the two matrices below; it is never written anew."""
    head = load_head(GOLDEN / "head-schema-1")
    assert head.spec == HeadSpec("ffn", {"hidden_features": 3, "activation": "relu"})
    first, second = torch.arange(12.0).reshape(3, 4) - 6, torch.arange(6.0).reshape(2, 3)
    x = torch.tensor([[1.0, -2.0, 3.0, 0.5]])
    torch.testing.assert_close(head(x), torch.relu(x @ first.T) @ second.T)
    save_head(head, tmp_path)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (GOLDEN / "head-schema-1" / name).read_bytes()


def edit_config(**changes):
    def edit(folder):
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))

    return edit


def edit_weights(change):
    def edit(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return edit


def put(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def only_a_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


TAMPERED = {
    "newer schema": (edit_config(schema_version=2), "has schema 2, this projheads reads up to 1; install a newer"),
    "no schema": (edit_config(schema_version=...), "is not the configuration of a projheads head"),
    "schema of a wrong type": (edit_config(schema_version="1"), 'schema_version is "1", must be of type int'),
    "extra key": (edit_config(code="x.py"), "must have exactly schema_version, head, options"),
    "missing key": (edit_config(options=...), "must have exactly schema_version, head, options"),
    "width of a wrong type": (edit_config(in_features=True), "in_features is true, must be of type int"),
    "negative width": (edit_config(out_features=-1), "out_features is -1"),
    "unknown head": (edit_config(head="linaer"), 'did you mean "linear"?'),
    "unknown option": (edit_config(options={"biass": True}), 'did you mean "bias"?'),
    "another width": (edit_config(out_features=9), "linear.weight has the shape (8, 12), linear needs (9, 12)"),
    "another head": (edit_config(head="ffn"), "lacks layers.0.linear.weight"),
    "broken JSON": (put("config.json", b'{"schema_version": 1'), "can not be read as JSON"),
    "JSON of another kind": (put("config.json", b"[1]"), "is not the configuration of a projheads head"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "no such file"),
    "extra tensor": (edit_weights(lambda w: w.update(extra=torch.ones(1))), "should not have extra"),
    "missing tensor": (edit_weights(lambda w: w.clear()), "lacks linear.weight"),
    "transposed": (edit_weights(lambda w: w.update({"linear.weight": torch.ones(12, 8)})), "has the shape (12, 8)"),
    "integers": (edit_weights(lambda w: w.update({"linear.weight": torch.ones(8, 12).int()})), "torch.int32"),
    "pickle under the name": (put("model.safetensors", pickle.dumps({"a": 1})), "is not a safetensors file"),
    "cut off": (put("model.safetensors", b"\x10\x00"), "is not a safetensors file"),
    "pickle alone": (only_a_pickle, "weights are read from safetensors only, never from a pickle"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_checkpoint_gets_one_line_that_names_the_file(tmp_path, what):
    save_head(build_head("linear", 12, 8), tmp_path)
    tamper, said = TAMPERED[what]
    tamper(tmp_path)
    with pytest.raises(ProjheadsError) as error:
        load_head(tmp_path)
    assert said in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "1_Projection/../../x", "..\\x", "C:/x", "C:x"])
def test_a_module_outside_the_checkpoint_is_refused(tmp_path, path):
    file = tmp_path / "modules.json"
    file.write_text(json.dumps([{"path": "", "type": "a.Transformer"}, {"path": path, "type": "b.C"}]))
    with pytest.raises(ProjheadsError, match="leads out of the checkpoint"):
        read_modules(file)


@pytest.mark.parametrize("content", ["{}", '[{"path": ""}]', "[1]", "3", "["])
def test_a_modules_file_of_another_kind_gets_one_line(tmp_path, content):
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(ProjheadsError) as error:
        read_modules(tmp_path / "modules.json")
    assert str(tmp_path / "modules.json") in str(error.value)
    assert "\n" not in str(error.value)
