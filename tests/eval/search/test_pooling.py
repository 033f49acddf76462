"""Pooled token vectors against the hosts' own functions, and against clusters that are plain to see."""

import numpy as np
import pytest
import torch

from eval.search.compressed import stored_as
from eval.search.pooling import pool_tokens
from experiment.config.storage_forms import parse_storage
from experiment.encoding.store import TokenStore, offsets_of


def texts(seed, lengths=(1, 2, 3, 4, 5, 9, 40, 97), width=24):
    """Float32 vectors of norm 1, clustered as the tokens of a text are."""
    generator = np.random.default_rng(seed)
    found = []
    for length in lengths:
        rows = generator.standard_normal((6, width))[generator.integers(6, size=length)]
        rows = rows + 0.5 * generator.standard_normal(rows.shape)
        found.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return found


def in_any_order(rows):
    """Clusters have no order: sort them, the first vector apart."""
    return np.concatenate([rows[:1], rows[1:][np.lexsort(rows[1:].T.round(4))]])


@pytest.mark.parametrize("factor", [2, 3])
def test_pooled_vectors_are_pylates(factor):
    colbert = pytest.importorskip("pylate.models.colbert")
    given = texts(factor)
    theirs = colbert.ColBERT.pool_embeddings_hierarchical(None, [torch.tensor(one) for one in given], factor)
    for rows, expected in zip(given, theirs, strict=True):
        pooled = pool_tokens(rows, factor, scaled=False)
        np.testing.assert_allclose(in_any_order(pooled), in_any_order(expected.numpy()), atol=1e-6)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("scaled", [True, False])
def test_pooled_vectors_are_those_of_sentence_transformers(factor, scaled):
    modules = pytest.importorskip("sentence_transformers.multi_vector_encoder.modules")
    pooling = modules.HierarchicalTokenPooling(factor, normalize_embeddings=scaled)
    for rows in texts(factor):
        expected = pooling.pool_one(torch.tensor(rows)).numpy()
        pooled = pool_tokens(rows, factor, scaled=scaled)
        np.testing.assert_allclose(in_any_order(pooled), in_any_order(expected), atol=1e-6)


def test_clusters_that_are_plain_to_see_are_averaged_and_the_first_vector_is_kept():
    one, two = np.eye(4, dtype=np.float32)[:2]
    near = (one + 0.1 * two) / np.sqrt(np.float32(1.01))
    pooled = pool_tokens(np.stack([two, one, two, near, two]), 2, scaled=False)
    np.testing.assert_allclose(in_any_order(pooled), in_any_order(np.stack([two, (one + near) / 2, two])), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(pool_tokens(np.stack([two, one, -one, near]), 3, scaled=True), axis=1), 1)


def test_fewer_vectors_take_fewer_bytes_and_a_text_keeps_at_least_two(tmp_path):
    given = [np.zeros((0, 24), np.float32), *texts(1)]
    store = TokenStore(np.concatenate(given), offsets_of(np.array([len(one) for one in given])))
    with stored_as(parse_storage("pool3"), store, store, tmp_path) as stored:
        assert stored.documents.lengths.tolist() == [0, 1, 2, 2, 2, 2, 3, 14, 33]
        assert stored.index_bytes == 48 * stored.documents.lengths.sum()
        assert stored.queries is store
        for place, rows in enumerate(given):
            expected = pool_tokens(rows, 3, scaled=False)
            np.testing.assert_allclose(stored.documents[place], expected, atol=2**-11)
