"""Where MaxSim agrees with PyLate's, and where it does not."""

import pytest
import torch
import torch.nn.functional as F

from projheads.scoring import maxsim, maxsim_nway

scores = pytest.importorskip("pylate.scores")


def embeddings(*shape, seed):
    return F.normalize(torch.randn(*shape, 16, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("backend", ["reference", "blocked"])
def test_agrees_without_masks(backend):
    queries, documents = embeddings(4, 6, seed=0), embeddings(5, 9, seed=1)
    theirs = scores.colbert_scores(queries, documents, backend="torch")
    torch.testing.assert_close(maxsim(queries, documents, backend=backend), theirs)


@pytest.mark.parametrize("backend", ["reference", "blocked"])
def test_agrees_where_every_masked_similarity_loses_to_a_positive_one(backend):
    queries, documents = embeddings(4, 6, seed=2).abs(), embeddings(5, 9, seed=3).abs()
    q_mask, d_mask = torch.rand(4, 6) > 0.3, torch.rand(5, 9) > 0.3
    d_mask[:, 0] = True
    theirs = scores.colbert_scores(queries, documents, q_mask, d_mask, backend="torch")
    torch.testing.assert_close(maxsim(queries, documents, q_mask, d_mask, backend=backend), theirs)


@pytest.mark.parametrize("backend", ["reference", "blocked"])
def test_nway_agrees_without_masks(backend):
    queries, documents = embeddings(4, 6, seed=4), embeddings(4, 3, 9, seed=5)
    theirs = scores.colbert_kd_scores(queries, documents, backend="torch")
    torch.testing.assert_close(maxsim_nway(queries, documents, backend=backend), theirs)


def test_differs_where_padding_beats_a_negative_similarity():
    """PyLate multiplies a masked similarity by 0, and 0 is more than the -1 of the only token that is there."""
    query, document = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[-1.0, 0.0], [0.0, 1.0]]])
    mask = torch.tensor([[True, False]])
    assert scores.colbert_scores(query, document, None, mask, backend="torch").item() == 0.0
    assert maxsim(query, document, None, mask).item() == -1.0
