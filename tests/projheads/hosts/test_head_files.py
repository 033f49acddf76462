"""The two files of a head: written alike by every host, read strictly."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from projheads import Head, HeadSpec, ProjheadsError, build_head, list_heads, list_presets
from projheads.hosts.head_files import load_head, read_modules, save_head

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


@pytest.fixture
def tied(monkeypatch):
    """A head whose two layers are one."""
    from projheads import registry

    class Tied(Head):
        """y = U relu(W relu(W x))."""

        def __init__(self, in_features: int, out_features: int) -> None:
            super().__init__(in_features, out_features)
            self.first, self.last = nn.Linear(in_features, in_features), nn.Linear(in_features, out_features)
            self.second = nn.Linear(in_features, in_features)
            self.second.weight = self.first.weight
            self.register_buffer("kept", self.first.weight.detach()[0])

        def reset_parameters(self):
            self.first.reset_parameters()
            self.second.reset_parameters()
            self.last.reset_parameters()

        def forward(self, x):
            return self.last(torch.relu(self.second(torch.relu(self.first(x)))))

    list_heads()
    monkeypatch.setattr(registry, "_HEADS", dict(registry._HEADS))
    registry.register_head("tied")(Tied)
    return build_head("tied", 12, 8).to(torch.bfloat16)


def test_tied_weights_stay_tied(tmp_path, tied):
    save_head(tied, tmp_path)
    again = load_head(tmp_path)
    assert again.second.weight is again.first.weight
    assert again.last.weight.dtype == torch.bfloat16
    assert again(torch.ones(12, dtype=torch.bfloat16)).tolist() == tied(torch.ones(12, dtype=torch.bfloat16)).tolist()
    weights = load_file(tmp_path / "model.safetensors")
    weights["second.weight"] += 1
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ProjheadsError, match=r"first.weight and second.weight are one weight of tied, but differ"):
        load_head(tmp_path)


def test_a_state_that_cannot_be_saved_is_one_line(tmp_path, tied):
    type(tied).get_extra_state = lambda self: {"not": "a tensor"}
    with pytest.raises(ProjheadsError, match=r"head tied: its weights cannot be saved \("):
        save_head(tied, tmp_path)


def test_the_format_of_schema_1_stays_readable(tmp_path):
    """golden/head-schema-1 was written by save_head from the two matrices below; it is never rewritten."""
    head = load_head(GOLDEN / "head-schema-1")
    assert head.spec == HeadSpec("ffn", {"hidden_features": 3, "activation": "relu"})
    first, second = torch.arange(12.0).reshape(3, 4) - 6, torch.arange(6.0).reshape(2, 3)
    x = torch.tensor([[1.0, -2.0, 3.0, 0.5]])
    torch.testing.assert_close(head(x), torch.relu(x @ first.T) @ second.T)
    save_head(head, tmp_path)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (GOLDEN / "head-schema-1" / name).read_bytes()


class Raw(str):
    """JSON text that json.dumps could not write."""


def edit_config(**changes):
    def edit(folder):
        config = json.loads((folder / "config.json").read_text()) | changes
        pairs = {k: v if isinstance(v, Raw) else json.dumps(v) for k, v in config.items() if v is not ...}
        (folder / "config.json").write_text("{" + ", ".join(f'"{k}": {v}' for k, v in pairs.items()) + "}")

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


def nested(depth):
    return Raw('{"inner": {"name": "residual", "options": ' * depth + "{}" + "}}" * depth)


def link_away(name):
    def edit(folder):
        elsewhere = folder.parent / f"{folder.name}-elsewhere"
        elsewhere.mkdir()
        (folder / name).rename(elsewhere / name)
        (folder / name).symlink_to(elsewhere / name)

    return edit


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
    "broken JSON": (put("config.json", b'{"schema_version": 1'), "cannot be read as JSON"),
    "JSON of another kind": (put("config.json", b"[1]"), "is not the configuration of a projheads head"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "no such file"),
    "extra tensor": (edit_weights(lambda w: w.update(extra=torch.ones(1))), "should not have extra"),
    "missing tensor": (edit_weights(lambda w: w.clear()), "lacks linear.weight"),
    "transposed": (edit_weights(lambda w: w.update({"linear.weight": torch.ones(12, 8)})), "has the shape (12, 8)"),
    "integers": (edit_weights(lambda w: w.update({"linear.weight": torch.ones(8, 12).int()})), "torch.int32"),
    "pickle under the name": (put("model.safetensors", pickle.dumps({"a": 1})), "is not a safetensors file"),
    "cut off": (put("model.safetensors", b"\x10\x00"), "is not a safetensors file"),
    "NaN": (edit_weights(lambda w: w["linear.weight"].fill_(float("nan"))), "values that are not finite"),
    "infinity": (edit_weights(lambda w: w["linear.weight"][0].fill_(float("inf"))), "values that are not finite"),
    "huge width": (edit_config(in_features=10**12), "takes over 32000.0 GB"),
    "width beyond any memory": (edit_config(in_features=10**18), "cannot be built (Storage size"),
    "endless layers": (edit_config(head="ffn", options={"depth": 10**9}), "depth=1000000000 must be at most 100"),
    "nested without end": (edit_config(head="residual", options=nested(100_000)), "cannot be read as JSON"),
    "link to a file elsewhere": (link_away("model.safetensors"), "is a link that leads out of the model folder"),
    "link to a configuration elsewhere": (link_away("config.json"), "is a link that leads out of the model folder"),
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
    with pytest.raises(ProjheadsError, match="leads out of the model folder"):
        read_modules(file)


@pytest.mark.parametrize("content", ["{}", '[{"path": ""}]', "[1]", "3", "["])
def test_a_modules_file_of_another_kind_gets_one_line(tmp_path, content):
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(ProjheadsError) as error:
        read_modules(tmp_path / "modules.json")
    assert str(tmp_path / "modules.json") in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_a_hubs_cache_links_to_are_its_own(tmp_path):
    """As huggingface_hub lays it out: snapshots/<commit>/1_Projection/config.json -> ../../../blobs/<hash>."""
    folder = tmp_path / "models--a--b" / "snapshots" / "0123" / "1_Projection"
    (tmp_path / "models--a--b" / "blobs").mkdir(parents=True)
    folder.mkdir(parents=True)
    save_head(build_head("linear", 12, 8), folder)
    for number, name in enumerate(("config.json", "model.safetensors")):
        (folder / name).rename(tmp_path / "models--a--b" / "blobs" / str(number))
        (folder / name).symlink_to(f"../../../blobs/{number}")
    assert str(load_head(folder).spec) == "linear"


def test_a_module_behind_a_link_that_leads_away_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "1_Projection").symlink_to(tmp_path / "elsewhere")
    file = tmp_path / "model" / "modules.json"
    file.write_text(json.dumps([{"path": "1_Projection", "type": "a.B"}]))
    with pytest.raises(ProjheadsError, match="is a link that leads out of the model folder"):
        read_modules(file)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_weights_keep_their_dtype(tmp_path, dtype):
    head = build_head("residual(learned_scale=true)", 12, 8).to(dtype)
    save_head(head, tmp_path)
    again = load_head(tmp_path)
    assert {name: tensor.dtype for name, tensor in again.state_dict().items()} == dict.fromkeys(
        head.state_dict(), dtype
    )
    assert all(torch.equal(tensor, head.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_a_head_of_a_file_that_was_renamed_or_is_not_given(tmp_path, monkeypatch):
    """The checkpoint names the head, not its file; and it says what to do where no file registers the head."""
    from projheads import registry

    code = """
from torch import nn
from projheads import Head, register_head

@register_head("renamed_head")
class Mine(Head):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.linear = nn.Linear(in_features, out_features)
    def reset_parameters(self):
        self.linear.reset_parameters()
    def forward(self, x):
        return self.linear(x)
"""
    list_heads()
    monkeypatch.setattr(registry, "_HEADS", known := dict(registry._HEADS))
    (tmp_path / "before.py").write_text(code)
    registry.import_head_file(tmp_path / "before.py")
    (tmp_path / "model").mkdir()
    save_head(head := build_head("renamed_head", 12, 8), tmp_path / "model")
    del known["renamed_head"]
    with pytest.raises(ProjheadsError, match=r'config.json: unknown head "renamed_head".*--heads FILE'):
        load_head(tmp_path / "model")
    (tmp_path / "before.py").rename(tmp_path / "after.py")
    (tmp_path / "after.py").write_text(
        code.replace("class Mine", "class Yours").replace("return self.linear", "return -1 * -self.linear")
    )
    registry.import_head_file(tmp_path / "after.py")
    x = torch.randn(3, 12)
    assert torch.equal(load_head(tmp_path / "model")(x), head(x))
