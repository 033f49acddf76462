"""What only PyLate has."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

pytest.importorskip("pylate")

from pylate import evaluation, indexes, losses, rank, retrieve
from pylate.models import ColBERT, Dense

from projheads import ProjheadsError, build_head
from projheads.hosts import pylate as host
from projheads.hosts.base import EncodingSettings

GOLDEN = Path(__file__).with_name("golden")
TEXTS = ["what is the capital of france", "a cat; a dog, a bird!", "rain"]
SETTINGS = EncodingSettings(query_length=8, document_length=16)


def make(backbone, spec="ffn"):
    return host.create(str(backbone), build_head(spec, 32, 8, generator=torch.Generator().manual_seed(1)), SETTINGS)


def test_what_users_checkpoints_say_never_changes(backbone, tmp_path):
    make(backbone).native.save(str(tmp_path), create_model_card=False)
    assert json.loads((tmp_path / "modules.json").read_text()) == json.loads((GOLDEN / "pylate.json").read_text())


def test_the_settings_are_what_plain_pylate_reads(backbone, tmp_path):
    settings = EncodingSettings(
        query_length=9,
        document_length=17,
        query_prefix="what ",
        document_prefix="",
        query_expansion=True,
        attend_to_expansion_tokens=True,
        skiplist=("cat", "!"),
    )
    host.create(str(backbone), build_head("linear", 32, 8), settings).save(tmp_path)
    plain = ColBERT(str(tmp_path), device="cpu")
    assert (plain.query_length, plain.document_length) == (9, 17)
    assert (plain.query_prefix, plain.document_prefix) == ("what ", "")
    assert (plain.do_query_expansion, plain.attend_to_expansion_tokens) == (True, True)
    assert plain.skiplist_words == ["cat", "!"]


def test_defaults_are_pylates_own(backbone):
    ours = host.create(str(backbone), build_head("linear", 32, 8), EncodingSettings()).native
    theirs = ColBERT(str(backbone), device="cpu")
    for name in [
        "query_length",
        "document_length",
        "query_prefix",
        "document_prefix",
        "query_prefix_id",
        "document_prefix_id",
        "do_query_expansion",
        "attend_to_expansion_tokens",
        "skiplist_words",
        "skiplist",
    ]:
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.fixture
def dense_checkpoint(backbone, tmp_path):
    """A checkpoint of PyLate's own, with a chain of two Dense."""
    plain = ColBERT(str(backbone), device="cpu", query_length=8, document_length=16)
    plain[1] = Dense(32, 24, bias=False, activation_function=nn.GELU(), use_residual=True)
    plain.append(Dense(24, 8, bias=True))
    plain.save_pretrained(str(tmp_path / "plain"), create_model_card=False)
    return tmp_path / "plain"


def test_a_checkpoint_of_pylates_own_opens_with_its_chain_as_the_head(dense_checkpoint, tmp_path):
    model = host.load(str(dense_checkpoint))
    plain = ColBERT(str(dense_checkpoint), device="cpu")
    assert (model.in_features, model.out_features) == (32, 8)
    for is_query in (True, False):
        theirs = plain.encode(TEXTS, is_query=is_query)
        tokens = model.tokenize(TEXTS, is_query=is_query)
        with torch.no_grad():
            ours = nn.functional.normalize(model.head(model.token_states(tokens)), dim=-1)
        kept = model.scoring_mask(tokens, is_query=is_query)
        for i, embeddings in enumerate(theirs):
            np.testing.assert_allclose(ours[i][kept[i]].numpy(), embeddings, atol=1e-6)
    model.save(tmp_path / "again")
    assert all(
        np.array_equal(a, b)
        for a, b in zip(
            plain.encode(TEXTS, is_query=False),
            ColBERT(str(tmp_path / "again"), device="cpu").encode(TEXTS, is_query=False),
            strict=True,
        )
    )


def test_its_chain_becomes_a_head_with_the_same_embeddings(dense_checkpoint):
    model = host.load(str(dense_checkpoint))
    head = host.from_dense_chain(list(model.native)[1:])
    assert str(head.spec) == ('ffn(depth=2, hidden_features=24, activation="gelu", bias=(false, true), residual=true)')
    for ours, theirs in zip(
        host.replace_head(model, head).encode(TEXTS, is_query=False), model.encode(TEXTS, is_query=False), strict=True
    ):
        assert np.array_equal(ours, theirs)


def test_a_checkpoint_in_stanfords_layout_opens(backbone, tmp_path):
    for file in backbone.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((backbone / "config.json").read_text()) | {"architectures": ["HF_ColBERT"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = {f"bert.{name}": tensor for name, tensor in load_file(backbone / "model.safetensors").items()}
    weights["linear.weight"] = torch.randn(8, 32)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "artifact.metadata").write_text('{"query_maxlen": 32, "doc_maxlen": 24}')
    model = host.load(str(tmp_path))
    assert torch.equal(model.head[0].module.linear.weight, weights["linear.weight"])
    assert model.encode(TEXTS, is_query=True)[0].shape == (32, 8)


def test_a_broken_head_is_refused_by_plain_pylate_too(backbone, tmp_path):
    make(backbone).native.save(str(tmp_path), create_model_card=False)
    (tmp_path / "1_Projection" / "model.safetensors").write_bytes(b"\x80\x04pickle")
    for opens in (host.load, ColBERT):
        with pytest.raises(ProjheadsError, match="is not a safetensors file"):
            opens(str(tmp_path))


def test_a_module_that_lies_outside_is_refused_before_it_is_read(backbone, tmp_path):
    make(backbone).native.save(str(tmp_path / "model"), create_model_card=False)
    (tmp_path / "model" / "1_Projection").rename(tmp_path / "elsewhere")
    text = (tmp_path / "model" / "modules.json").read_text().replace("1_Projection", "../elsewhere")
    (tmp_path / "model" / "modules.json").write_text(text)
    with pytest.raises(ProjheadsError, match="leads out of the model folder"):
        host.load(str(tmp_path / "model"))


def test_another_hosts_model_is_refused(backbone):
    class Other:
        host, native = "sentence-transformers", nn.Linear(1, 1)

    with pytest.raises(ProjheadsError, match='the model belongs to the host "sentence-transformers"'):
        host.replace_head(Other(), build_head("linear", 32, 8))


def test_pylate_trains_the_head(backbone):
    """Its own loss, on its own features: the head gets a gradient and the loss falls."""
    model = make(backbone)
    loss = losses.Contrastive(model.native)
    optimizer = torch.optim.AdamW(model.head.parameters(), lr=0.01)
    values = []
    for _ in range(4):
        features = [model.native.tokenize(TEXTS, is_query=True), model.native.tokenize(TEXTS, is_query=False, pad=True)]
        value = loss(features)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]


def test_pylates_retrieval_and_evaluation_run_on_a_saved_model(backbone, tmp_path):
    make(backbone).save(tmp_path / "model")
    plain = ColBERT(str(tmp_path / "model"), device="cpu")
    documents = [f"the {colour} {animal}" for colour in ("red", "blue", "green") for animal in ("cat", "dog", "bird")]
    ids = [str(i) for i in range(len(documents))]
    queries, embeddings = plain.encode(documents, is_query=True), plain.encode(documents, is_query=False)
    reranked = rank.rerank([ids] * len(ids), queries_embeddings=queries, documents_embeddings=[embeddings] * len(ids))
    index = indexes.PLAID(index_folder=str(tmp_path), index_name="index", override=True, show_progress=False)
    index.add_documents(documents_ids=ids, documents_embeddings=embeddings)
    found = retrieve.ColBERT(index=index).retrieve(queries_embeddings=queries, k=3)
    for exact, approximate in zip(reranked, found, strict=True):
        assert exact[0]["id"] in {result["id"] for result in approximate}
    evaluator = evaluation.ColBERTTripletEvaluator(
        anchors=documents, positives=documents, negatives=documents[1:] + documents[:1]
    )
    assert 0 <= evaluator(plain)["accuracy"] <= 1
