"""A whole model as ONNX, run as a program without torch runs it: tokenizers, onnxruntime and numpy."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from projheads import ProjheadsError, build_head
from projheads.export import export_model
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
