"""A complete model as ONNX, run without torch: tokenizers, onnxruntime and numpy."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from projheads import ProjheadsError, build_head
from projheads.__main__ import main
from projheads.export import export_model
from projheads.export.onnx_file import OnnxModel
from projheads.hosts.base import EncodingSettings

onnxruntime = pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("onnxscript")

TEXTS = ["What is the capital of France?", "a cat; a dog, a bird!", "", "the cat sat on the mat " * 12]


class Runner:
    """What is written in encoding.json, done."""

    def __init__(self, folder):
        self.about = json.loads((folder / "encoding.json").read_text())
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def encode(self, texts, *, is_query):
        about, side = self.about, "query" if is_query else "document"
        length, prefix = about[f"{side}_length"], about[f"{side}_prefix_id"]
        self.tokenizer.enable_truncation(length - (prefix is not None))
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch([text.strip() for text in texts])]
        rows = [[ids[0], prefix, *ids[1:]] if prefix is not None else ids for ids in rows]
        expanded = is_query and about["query_expansion"]
        width = length if expanded else max(map(len, rows))
        filling = about["expansion_token_id"] if expanded else about["pad_token_id"]
        ids = np.array([row + [filling] * (width - len(row)) for row in rows])
        mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        kept = np.ones_like(mask) if expanded else mask.copy()
        if expanded and about["attend_to_expansion_tokens"]:
            mask[:] = 1
        if not is_query:
            kept[np.isin(ids, about["skiplist_ids"])] = 0
        (embeddings,) = self.session.run(None, {"input_ids": ids, "attention_mask": mask})
        return [rows[keep.astype(bool)] for rows, keep in zip(embeddings, kept, strict=True)]


@pytest.mark.parametrize("spec, attended", [("glu", False), ('ffn(activation="gelu", residual=true)', True)])
def test_onnxruntime_gives_the_hosts_embeddings(host, backbone, tmp_path, spec, attended):
    settings = EncodingSettings(query_length=12, document_length=24, attend_to_expansion_tokens=attended)
    model = host.create(str(backbone), build_head(spec, 32, 8), settings)
    model.save(tmp_path / "model")
    made = export_model(str(tmp_path / "model"), tmp_path / "onnx", to="onnx")
    assert made.opens_in == ["onnxruntime"]
    runner = Runner(tmp_path / "onnx")
    for texts in (TEXTS, TEXTS[:1], [text[:9] for text in TEXTS] * 3):  # other batches, other lengths
        for is_query in (True, False):
            theirs = model.encode(texts, is_query=is_query)
            for a, b in zip(runner.encode(texts, is_query=is_query), theirs, strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, atol=1e-5)
    norms = np.linalg.norm(np.concatenate(runner.encode(TEXTS, is_query=False)), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-5)


@pytest.fixture
def local_backbone(backbone, tmp_path):
    """A ModernBERT whose layers see two tokens on each side; the first and the last see all."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "local"
    shutil.copytree(backbone, folder)
    config = transformers.ModernBertConfig(
        vocab_size=len(transformers.AutoTokenizer.from_pretrained(backbone)),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        local_attention=4,
        global_attn_every_n_layers=3,
        pad_token_id=0,
        cls_token_id=2,
        bos_token_id=2,
        sep_token_id=3,
        eos_token_id=3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ModernBertModel(config).save_pretrained(folder)
    return str(folder)


def test_expansion_tokens_beyond_the_local_window(host, local_backbone, tmp_path):
    model = host.create(local_backbone, build_head("linear", 32, 8), EncodingSettings(query_length=40))
    model.save(tmp_path / "model")
    made = export_model(str(tmp_path / "model"), tmp_path / "onnx", to="onnx")
    assert 0 < made.difference < 1e-5
    runner = Runner(tmp_path / "onnx")
    for is_query in (True, False):
        theirs = model.encode(TEXTS, is_query=is_query)
        for a, b in zip(runner.encode(TEXTS, is_query=is_query), theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_graph_that_is_not_the_model_is_not_written(host, backbone, tmp_path, monkeypatch):
    host.create(str(backbone), build_head("linear", 32, 8), EncodingSettings()).save(tmp_path / "model")

    def other(self, input_ids, attention_mask):
        states = self.encoder(input_ids=input_ids, attention_mask=torch.ones_like(attention_mask))[0]
        return F.normalize(self.head(states), dim=-1)

    monkeypatch.setattr(OnnxModel, "forward", other)
    with pytest.raises(ProjheadsError, match="cannot be exported to ONNX: embeddings of queries differ from the model"):
        export_model(str(tmp_path / "model"), tmp_path / "onnx", to="onnx")
    assert not (tmp_path / "onnx").exists()


def test_the_difference_to_a_model_in_bfloat16_is_reported(host, backbone, tmp_path, capsys):
    model = host.create(str(backbone), build_head("linear", 32, 8), EncodingSettings())
    model.native.to(torch.bfloat16)
    model.save(tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "onnx"), "--to", "onnx"]) == 0
    assert "the model computes in bfloat16" in capsys.readouterr().out
    made = export_model(str(tmp_path / "model"), tmp_path / "again", to="onnx")
    text = ["What is the capital of France?"]
    here = np.abs(Runner(tmp_path / "onnx").encode(text, is_query=True)[0] - model.encode(text, is_query=True)[0]).max()
    assert 1e-4 < here <= made.difference < 0.1


def test_without_a_mask_token_the_file_names_the_token_that_expands(host, backbone, tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "backbone"
    shutil.copytree(backbone, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.mask_token, tokenizer.eos_token = None, "[SEP]"
    tokenizer.save_pretrained(folder)
    settings = EncodingSettings(query_length=12, skiplist=(".", "zebra"))
    model = host.create(str(folder), build_head("linear", 32, 8), settings)
    model.save(tmp_path / "model")
    export_model(str(tmp_path / "model"), tmp_path / "onnx", to="onnx")
    runner = Runner(tmp_path / "onnx")
    assert runner.about["skiplist"] == ["."]
    for is_query in (True, False):
        theirs = model.encode(TEXTS, is_query=is_query)
        for a, b in zip(runner.encode(TEXTS, is_query=is_query), theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_without_the_exporter_the_line_says_what_to_install(host, backbone, tmp_path, monkeypatch):
    host.create(str(backbone), build_head("linear", 32, 8), EncodingSettings()).save(tmp_path / "model")
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else real(name))
    with pytest.raises(ProjheadsError, match=r"needs onnxscript; pip install 'projheads\[onnx\]'"):
        export_model(str(tmp_path / "model"), tmp_path / "onnx", to="onnx")
    assert not (tmp_path / "onnx").exists()


def test_an_encoder_that_cannot_be_exported_is_one_line(host, backbone, tmp_path, monkeypatch):
    host.create(str(backbone), build_head("linear", 32, 8), EncodingSettings()).save(tmp_path / "model")

    def fails(*arguments, **options):
        raise RuntimeError("no such operator\nand much more")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(ProjheadsError, match="cannot be exported to ONNX") as error:
        export_model(str(tmp_path / "model"), tmp_path / "onnx", to="onnx")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "onnx").exists()
