"""What only sentence-transformers >= 6 has."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from projheads import ProjheadsError, build_head
from projheads.hosts import available_hosts
from projheads.hosts.base import EncodingSettings

if "sentence-transformers" not in available_hosts():
    pytest.skip("sentence-transformers >= 6 is not installed here", allow_module_level=True)

from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from projheads.hosts import sentence_transformers as host

GOLDEN = Path(__file__).with_name("golden")
TEXTS = ["what is the capital of france", "a cat; a dog, a bird!", "rain"]
SETTINGS = EncodingSettings(query_length=8, document_length=16)


def make(backbone, spec="ffn"):
    return host.create(str(backbone), build_head(spec, 32, 8, generator=torch.Generator().manual_seed(1)), SETTINGS)


def test_pylate_is_not_needed():
    assert "pylate" not in sys.modules


def test_what_users_checkpoints_say_never_changes(backbone, tmp_path):
    make(backbone).native.save(str(tmp_path), create_model_card=False)
    golden = json.loads((GOLDEN / "sentence-transformers.json").read_text())
    assert json.loads((tmp_path / "modules.json").read_text()) == golden


def test_the_plain_host_asks_to_be_told_to_trust_us(backbone, tmp_path):
    make(backbone).native.save(str(tmp_path), create_model_card=False)
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        MultiVectorEncoder(str(tmp_path), device="cpu")


def test_a_class_of_someone_else_is_refused_in_one_line(backbone, tmp_path):
    make(backbone).native.save(str(tmp_path), create_model_card=False)
    text = (tmp_path / "modules.json").read_text().replace("projheads.hosts.sentence_transformers.Proj", "evil.Proj")
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(ProjheadsError, match=r"evil.Projection.*trust_remote_code=True") as error:
        host.load(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_checkpoint_with_the_hosts_own_dense_opens_with_its_chain_as_the_head(backbone, tmp_path):
    chain = [
        Dense(32, 24, False, nn.GELU(), module_input_name="token_embeddings", use_residual=True),
        Dense(24, 8, True, nn.Identity(), module_input_name="token_embeddings"),
    ]
    modules = [Transformer(str(backbone)), *chain, MultiVectorMask(["!"]), Normalize("token_embeddings")]
    plain = MultiVectorEncoder(modules=modules, device="cpu")
    plain.save(str(tmp_path), create_model_card=False)
    model = host.load(str(tmp_path))
    tokens = model.tokenize(TEXTS, is_query=False)
    with torch.no_grad():
        ours = nn.functional.normalize(model.head(model.token_states(tokens)), dim=-1)
    kept = model.scoring_mask(tokens, is_query=False)
    theirs = plain.encode_document(TEXTS, convert_to_numpy=True)
    for i, embeddings in enumerate(theirs):
        np.testing.assert_allclose(ours[i][kept[i]].numpy(), embeddings, atol=1e-6)
    head = host.from_dense_chain(chain)
    for a, b in zip(host.replace_head(model, head).encode(TEXTS, is_query=False), theirs, strict=True):
        assert np.array_equal(a, b)


def test_a_broken_head_is_refused(backbone, tmp_path):
    make(backbone).native.save(str(tmp_path), create_model_card=False)
    (tmp_path / "1_Projection" / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ProjheadsError, match="is not a safetensors file"):
        host.load(str(tmp_path))


def test_another_hosts_model_is_refused():
    class Other:
        host, native = "pylate", nn.Linear(1, 1)

    with pytest.raises(ProjheadsError, match='the model belongs to the host "pylate"'):
        host.replace_head(Other(), build_head("linear", 32, 8))


def test_the_hosts_similarity_is_maxsim(backbone):
    from projheads.scoring import maxsim

    model = make(backbone)
    queries, documents = model.native.encode_query(TEXTS), model.native.encode_document(TEXTS)
    theirs = model.native.similarity(queries, documents)
    padded = nn.utils.rnn.pad_sequence(documents, batch_first=True)
    mask = torch.arange(padded.shape[1]) < torch.tensor([len(document) for document in documents])[:, None]
    torch.testing.assert_close(maxsim(torch.stack(queries), padded, None, mask), theirs.cpu())
