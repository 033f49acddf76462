"""What a model folder may not do to the program that opens it: run code without trust, give away files outside."""

import json
import shutil
import sys
import types

import pytest
from torch import nn

from projheads import ProjheadsError, build_head
from projheads.__main__ import main
from projheads.export import export_model, fold_model, swap_model
from projheads.hosts.base import EncodingSettings, OpenOptions

TRUSTED = OpenOptions(trust_remote_code=True)
SETTINGS = EncodingSettings(query_length=8, document_length=16)


@pytest.fixture
def model(host, backbone, tmp_path):
    """The folder of a stock model: a transformer and the host's own ``Dense``."""
    made = host.create(str(backbone), build_head("linear", 32, 8), SETTINGS)
    made.save(tmp_path / "head")
    fold_model(str(tmp_path / "head"), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """A file that the code of a malicious folder writes."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    return tmp_path / "ran"


def write_code(folder, name, ran):
    body = "import torch\nclass Thing(torch.nn.Module):\n    pass\nDense = Thing\n"
    (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'w').close()\n{body}")


def edit(file, change):
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def own_class(kind):
    def prepare(folder, ran):
        write_code(folder, kind.partition(".")[0], ran)
        edit(folder / "modules.json", lambda modules: modules[1].update(type=kind))

    return prepare


def own_activation(folder, ran):
    module = types.ModuleType("evil_activation")
    module.Boom = lambda: (ran.touch(), nn.Identity())[1]
    sys.modules["evil_activation"] = module
    edit(folder / "1_Dense" / "config.json", lambda config: config.update(activation_function="evil_activation.Boom"))


def own_route(folder, ran):
    write_code(folder, "evil", ran)
    (folder / "2_Router").mkdir()
    (folder / "2_Router" / "router_config.json").write_text(json.dumps({"types": {"query_0": "evil.Thing"}}))
    entry = {"idx": 2, "name": "2", "path": "2_Router", "type": "sentence_transformers.models.Router"}
    edit(folder / "modules.json", lambda modules: modules.append(entry))


def own_architecture(folder, ran):
    write_code(folder, "evil", ran)
    own = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Thing", "AutoModel": "evil.Thing"}}
    edit(folder / "config.json", lambda config: config.update(own))


def own_tokenizer(folder, ran):
    write_code(folder, "evil", ran)
    own = {"tokenizer_class": "Thing", "auto_map": {"AutoTokenizer": ["evil.Thing", "evil.Thing"]}}
    edit(folder / "tokenizer_config.json", lambda config: config.update(own))


MALICIOUS = {
    "module class": own_class("evil.Thing"),
    "module class named as a library": own_class("pylate.Dense"),
    "activation": own_activation,
    "routed class": own_route,
    "architecture": own_architecture,
    "tokenizer": own_tokenizer,
}


def paths(host, folder, out, options=None):
    """Everything in the library that opens a model folder."""
    given = [] if options is None else [options]
    settings = SETTINGS if options is None else EncodingSettings(trust_remote_code=True)
    return {
        "create": lambda: host.create(folder, build_head("linear", 32, 8), settings),
        "width": lambda: host.backbone_width(folder, *given),
        "load": lambda: host.load(folder, *given),
        "swap": lambda: swap_model(folder, "linear", out, *given),
        "fold": lambda: fold_model(folder, out, *given),
        "dense-chain": lambda: export_model(folder, out, *given, to="dense-chain"),
        "onnx": lambda: export_model(folder, out, *given, to="onnx"),
        "stanford": lambda: export_model(folder, out, *given, to="stanford"),
    }


@pytest.mark.parametrize("what", MALICIOUS)
def test_no_code_of_a_folder_runs_without_trust(host, model, tmp_path, ran, what):
    MALICIOUS[what](model, ran)
    for name, opens in paths(host, str(model), tmp_path / "out").items():
        with pytest.raises(ProjheadsError) as error:
            opens()
        assert "pass trust_remote_code=True if you trust its author" in str(error.value), name
        assert "\n" not in str(error.value)
    assert not ran.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["module class", "architecture", "tokenizer"])
def test_with_trust_that_code_runs(host, model, tmp_path, ran, what):
    """So the folders of the test above would have run it."""
    MALICIOUS[what](model, ran)
    with pytest.raises(ProjheadsError, match="cannot be opened"):  # their code is of no use
        host.load(str(model), TRUSTED)
    assert ran.exists()


def test_code_that_transformers_has_itself_needs_no_trust(host, model):
    edit(model / "config.json", lambda config: config.update(auto_map={"AutoModel": "evil.Thing"}))
    assert host.load(str(model)).out_features == 8


@pytest.mark.parametrize("command", [["fold"], ["export", "--to", "dense-chain"]])
def test_code_is_not_kept_without_trust(model, tmp_path, command):
    (model / "modeling.py").write_text("")
    name, *options = command
    assert main([name, str(model), str(tmp_path / "out"), *options]) == 0
    assert not list((tmp_path / "out").rglob("*.py"))
    assert main([name, str(model), str(tmp_path / "trusted"), *options, "--trust-remote-code"]) == 0
    assert (tmp_path / "trusted" / "modeling.py").is_file()


def copying(host, folder, out):
    return {name: opens for name, opens in paths(host, folder, out).items() if name not in ("create", "width", "load")}


@pytest.mark.parametrize("what", ["README.md", "tokenizer.json", "1_Dense/notes.txt", "1_Dense"])
def test_links_out_of_the_folder_are_not_copied(host, model, tmp_path, what):
    elsewhere = tmp_path / "elsewhere"
    place = model / what
    if place.exists():
        place.rename(elsewhere)
    else:
        elsewhere.write_text("secret")
    place.symlink_to(elsewhere)
    for name, opens in copying(host, str(model), tmp_path / "out").items():
        with pytest.raises(ProjheadsError, match="leads out of the model folder"):
            opens()
        assert not (tmp_path / "out").exists(), name


def cached(monkeypatch, root, model, reference="main"):
    """Put a model into a hub's cache, whose snapshots are links to blobs."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = root / "models--some--model"
    snapshot = repository / "snapshots" / ("a" * 40)
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / reference).write_text("a" * 40)
    for number, file in enumerate(sorted(file for file in model.rglob("*") if file.is_file())):
        link = snapshot / file.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, repository / "blobs" / str(number))
        link.symlink_to(repository / "blobs" / str(number))


def test_links_into_a_hubs_cache_are_its_own_files(host, model, tmp_path, monkeypatch):
    cached(monkeypatch, tmp_path / "cache", model)
    for name, opens in copying(host, "some/model", tmp_path / "out").items():
        opens()
        assert not any(file.is_symlink() for file in (tmp_path / "out").rglob("*")), name
        shutil.rmtree(tmp_path / "out")


def test_a_revision_is_used_everywhere(host, model, tmp_path, monkeypatch):
    """The copy has no main branch, so a path that drops the revision does not find it."""
    cached(monkeypatch, tmp_path / "cache", model, reference="v1")
    out = tmp_path / "out"
    assert host.backbone_width("some/model", OpenOptions(revision="v1")) == 32
    host.create("some/model", build_head("linear", 32, 8), EncodingSettings(revision="v1"))
    assert host.load("some/model", OpenOptions(revision="v1")).out_features == 8
    for arguments in (["fold"], ["export", "--to", "dense-chain"], ["export", "--to", "onnx"], ["swap", "linear"]):
        name, *more = arguments
        command = [name, "some/model", *(reversed([str(out), *more]) if name == "swap" else [str(out), *more])]
        assert main(command) == 2
        assert main([*command, "--revision", "v1"]) == 0
        shutil.rmtree(out)
