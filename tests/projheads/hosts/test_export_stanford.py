"""Stanford's layout, opened by colbert-ai and by the hosts that read it too."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from projheads import ProjheadsError, build_head, fold
from projheads.export import export_model
from projheads.hosts.base import EncodingSettings

TEXTS = ["What is the capital of France?", "a cat; a dog, a bird!", "the cat sat on the mat " * 12]
SETTINGS = EncodingSettings(query_length=12, document_length=24)


def make(host, backbone, folder, spec="lateon", settings=SETTINGS):
    head = build_head(spec, 32, 8, generator=torch.Generator().manual_seed(1))
    model = host.create(str(backbone), head, settings)
    model.save(folder)
    return model


@pytest.mark.parametrize("attended", [False, True])
def test_colbert_ai_opens_it_with_the_same_embeddings(host, backbone, tmp_path, monkeypatch, attended):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("colbert")
    # colbert-ai 0.2.22 knows transformers 4: it skips the step that sets this, and compiles an extension it needs not.
    monkeypatch.setattr(transformers.PreTrainedModel, "all_tied_weights_keys", {}, raising=False)
    from colbert.infra import ColBERTConfig
    from colbert.modeling.checkpoint import Checkpoint
    from colbert.modeling.colbert import ColBERT

    monkeypatch.setattr(ColBERT, "loaded_extensions", True, raising=False)
    settings = EncodingSettings(query_length=12, document_length=24, attend_to_expansion_tokens=attended)
    model = make(host, backbone, tmp_path / "model", settings=settings)
    made = export_model(str(tmp_path / "model"), tmp_path / "stanford", to="stanford")
    assert "colbert-ai" in made.opens_in
    path = str(tmp_path / "stanford")
    stanfords = Checkpoint(path, colbert_config=ColBERTConfig(checkpoint=path), verbose=0)
    assert stanfords.colbert_config.dim == 8
    queries, documents = stanfords.queryFromText(TEXTS), stanfords.docFromText(TEXTS, keep_dims=False)
    for ours, theirs in zip(model.encode(TEXTS, is_query=True), queries, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
    for ours, theirs in zip(model.encode(TEXTS, is_query=False), documents, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)


def test_the_hosts_open_it_too(host, backbone, tmp_path):
    model = make(host, backbone, tmp_path / "model")
    export_model(str(tmp_path / "model"), tmp_path / "stanford", to="stanford")
    again = host.load(str(tmp_path / "stanford"))
    for is_query in (True, False):
        for a, b in zip(model.encode(TEXTS, is_query=is_query), again.encode(TEXTS, is_query=is_query), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_files_are_those_of_the_layout(host, backbone, tmp_path):
    model = make(host, backbone, tmp_path / "model")
    export_model(str(tmp_path / "model"), tmp_path / "stanford", to="stanford")
    weights = load_file(tmp_path / "stanford" / "model.safetensors")
    assert torch.equal(weights.pop("linear.weight"), fold(model.head).weight)
    assert all(name.startswith("bert.") for name in weights)
    assert json.loads((tmp_path / "stanford" / "config.json").read_text())["architectures"] == ["HF_ColBERT"]
    metadata = json.loads((tmp_path / "stanford" / "artifact.metadata").read_text())
    assert (metadata["query_token_id"], metadata["query_maxlen"], metadata["doc_maxlen"]) == ("[Q] ", 12, 24)
    assert metadata["mask_punctuation"] is True
    assert not (tmp_path / "stanford" / "modules.json").exists()
    with pytest.raises(ProjheadsError, match="is in Stanford's layout, where the head already is one matrix"):
        export_model(str(tmp_path / "stanford"), tmp_path / "again", to="stanford")


@pytest.mark.parametrize(
    "spec, settings, said",
    [
        ("linear(bias=true)", SETTINGS, "a bias"),
        ("linear", EncodingSettings(query_length=12, document_length=24, query_expansion=False), "without expansion"),
        ("linear", EncodingSettings(query_length=12, document_length=24, query_prefix=""), "without a prefix"),
        ("linear", EncodingSettings(query_length=12, document_length=24, skiplist=("cat",)), "a skiplist other than"),
    ],
)
def test_what_the_layout_has_no_place_for_is_refused(host, backbone, tmp_path, spec, settings, said):
    make(host, backbone, tmp_path / "model", spec, settings)
    with pytest.raises(ProjheadsError, match=f"Stanford's layout has no place for .*{said}"):
        export_model(str(tmp_path / "model"), tmp_path / "stanford", to="stanford")
    assert not (tmp_path / "stanford").exists()
