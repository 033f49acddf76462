"""Token states into embeddings, against the formula."""

import tempfile

import numpy as np
import pytest
import torch
from torch import nn

import eval.embed as embed_module
from eval.embed import project_tokens
from experiment.disk.models import saved_backbone_hash
from experiment.encoding.store import TokenStore
from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.hosts.model_folder import read_head

CPU = torch.device("cpu")


@pytest.fixture
def states():
    rows = np.random.default_rng(0).standard_normal((23, 12)).astype(np.float16)
    return TokenStore(rows, np.array([0, 5, 5, 23]), truncated=2, seconds=1.5)


def project(states, head, precision="fp32"):
    with tempfile.TemporaryFile() as file:
        return project_tokens(states, head, file, CPU, precision)


@pytest.mark.parametrize("rows", [1, 7, 23, 1000])
def test_embeddings_are_the_normalised_output_of_the_head(states, rows, monkeypatch):
    monkeypatch.setattr(embed_module, "PROJECTED_ROWS", rows)
    head = build_head("linear", 12, 6)
    (weight,) = head.parameters()
    projected = states.vectors.astype(np.float64) @ weight.detach().double().numpy().T
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    store = project(states, head)
    assert store.vectors.dtype == np.float16
    np.testing.assert_allclose(store.vectors, expected, atol=2**-11)
    np.testing.assert_array_equal(store.offsets, states.offsets)
    assert store.truncated == 2
    assert store.seconds > 1.5


def test_without_a_head_they_are_the_normalised_states(states):
    expected = states.vectors.astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(project(states, nn.Identity()).vectors, expected, atol=2**-11)


def test_dropout_is_off(states):
    first, second = (project(states, nn.Dropout(0.5)).vectors for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_no_states_give_no_embeddings():
    empty = TokenStore(np.zeros((0, 12), np.float16), np.zeros(3, np.int64))
    assert project(empty, nn.Identity()).vectors.shape == (0, 12)


def test_embeddings_that_are_not_finite_are_refused(states):
    head = build_head("linear", 12, 6)
    next(head.parameters()).data[0, 0] = float("inf")
    with pytest.raises(ProjheadsError, match="embeddings that are not finite"):
        project(states, head)


def test_models_with_the_same_backbone_are_recognised_whatever_their_heads(tmp_path, fake_host):
    for name, seed, spec in (("a", 1, "linear"), ("b", 1, "upscaled"), ("c", 2, "linear")):
        fake_host(seed, build_head(spec, 12, 6)).save(tmp_path / name)
    (tmp_path / "b" / "README.md").write_text("a model card")
    assert (
        saved_backbone_hash(tmp_path / "a")
        == saved_backbone_hash(tmp_path / "b")
        != saved_backbone_hash(tmp_path / "c")
    )
    (tmp_path / "b" / "tokenizer.json").write_text("{}")
    assert saved_backbone_hash(tmp_path / "a") != saved_backbone_hash(tmp_path / "b")
    assert str(read_head(tmp_path / "b").spec) == "upscaled"
