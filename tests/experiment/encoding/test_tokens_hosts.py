"""Token stores of each installed host's models, against what the host itself encodes."""

import numpy as np
import pytest
import torch

from experiment.encoding.tokens import encode_tokens
from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.hosts import available_hosts, load_host
from projheads.hosts.base import EncodingSettings

TEXTS = [
    "the cat sat on the mat",
    "",
    "Paris, the capital of France!",
    "where is the red dog; what is blue?",
    ". . .",
    "rain " * 300,
    "sun",
    "Ünïcode 漢字 \u00a0 tab\there",
]


def new_model(host, backbone, spec, seed, **settings):
    head = build_head(spec, 32, 16, generator=torch.Generator().manual_seed(seed))
    return load_host(host).create(str(backbone), head, EncodingSettings(**settings))


@pytest.mark.parametrize("host", available_hosts())
@pytest.mark.parametrize("settings", [{}, {"query_expansion": False}, {"skiplist": ("the",), "document_length": 40}])
def test_embeddings_are_those_of_the_hosts_own_encode(host, backbone, settings, threads):
    model = new_model(host, backbone, 'ffn(activation="gelu")', 0, **settings)
    for is_query in (False, True):
        ours = encode_tokens(model, TEXTS, is_query=is_query, project=True, dtype="float32", batch_tokens=100)
        theirs = model.encode(TEXTS, is_query=is_query)
        assert ours.lengths.tolist() == [len(rows) for rows in theirs]
        np.testing.assert_allclose(ours.vectors, np.concatenate(theirs), atol=1e-6)
        assert ours.truncated == 1


@pytest.mark.parametrize("host", available_hosts())
@pytest.mark.parametrize("is_query", [False, True])
def test_canonical_states_do_not_depend_on_the_other_texts(host, backbone, is_query, threads):
    model = new_model(host, backbone, "linear", 0, query_expansion=False, query_length=20, document_length=100)
    texts = [*TEXTS, *("cat " * count for count in range(60))]

    def encode(some, **options):
        return encode_tokens(model, some, is_query=is_query, project=False, **options)

    together = encode(texts, canonical=True)
    np.testing.assert_allclose(together.vectors, encode(texts).vectors, atol=2e-3)
    for place in (0, 2, 5, 30, 67):
        alone = encode([texts[place]], canonical=True)
        np.testing.assert_array_equal(together[place], alone[0])


@pytest.mark.parametrize("host", available_hosts())
def test_embeddings_of_a_pretrained_backbone_are_those_of_the_hosts_own_encode(host):
    adapter = load_host(host)
    head = build_head("upscaled(residual=true)", 384, 128, generator=torch.Generator().manual_seed(0))
    try:
        model = adapter.create("sentence-transformers/all-MiniLM-L6-v2", head, EncodingSettings())
    except ProjheadsError:
        pytest.skip("MiniLM is not on this machine")
    for is_query in (False, True):
        ours = encode_tokens(model, TEXTS, is_query=is_query, project=True, dtype="float32", batch_tokens=64)
        theirs = model.encode(TEXTS, is_query=is_query, batch_size=3)
        assert ours.lengths.tolist() == [len(rows) for rows in theirs]
        np.testing.assert_allclose(ours.vectors, np.concatenate(theirs), atol=2e-6)
