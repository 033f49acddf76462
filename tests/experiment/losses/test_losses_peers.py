"""Our losses against those of PyLate and of sentence-transformers 6, on the same token embeddings.

Their losses call a model; here it hands out embeddings that are given, so that value and gradient can be compared.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional

from experiment.losses import KL, Contrastive, MarginMSE
from projheads.scoring import maxsim, maxsim_nway

BATCH, WAYS, QUERY, DOCUMENT, WIDTH = 5, 3, 4, 6, 8


class GivenEmbeddings(nn.Module):
    """A model whose features are its embeddings already."""

    skiplist = ()
    do_query_expansion = True

    def forward(self, features, task=None):
        return {"token_embeddings": features["embeddings"], "attention_mask": features["attention_mask"]}


@pytest.fixture
def texts():
    """Unit embeddings (B, Lq, d) and (B, n, Ld, d) as leaves, and the documents' mask, padded at the end."""

    def make(padding, positive):
        generator = torch.Generator().manual_seed(3)
        queries = torch.randn(BATCH, QUERY, WIDTH, generator=generator)
        documents = torch.randn(BATCH, WAYS, DOCUMENT, WIDTH, generator=generator)
        if positive:
            queries, documents = queries.abs(), documents.abs()
        queries, documents = (functional.normalize(x, dim=-1).requires_grad_() for x in (queries, documents))
        mask = torch.ones(BATCH, WAYS, DOCUMENT, dtype=torch.bool)
        if padding:
            mask[:, :, 2:] = torch.rand(BATCH, WAYS, DOCUMENT - 2, generator=generator) < 0.3
        return queries, documents, mask

    return make


TEACHER = torch.randn(BATCH, WAYS, generator=torch.Generator().manual_seed(5)) * 2


def features(embeddings, mask):
    ids = torch.ones(mask.shape, dtype=torch.long)
    return {"embeddings": embeddings, "attention_mask": mask, "input_ids": ids}


def columns(queries, documents, mask):
    """The batch as both peers get it: the queries, then one entry for each place in the tuples."""
    query_mask = torch.ones(queries.shape[:2], dtype=torch.bool)
    return [features(queries, query_mask), *(features(documents[:, k], mask[:, k]) for k in range(WAYS))]


def ours(config, queries, documents, mask):
    if config.scope == "batch":
        scores = maxsim(queries, documents.flatten(0, 1), None, mask.flatten(0, 1))
    else:
        scores = maxsim_nway(queries, documents, None, mask)
    return config(scores, n_ways=WAYS, teacher=TEACHER)


def pylate_loss(config):
    losses = pytest.importorskip("pylate.losses")
    if isinstance(config, Contrastive):
        module = losses.Contrastive(GivenEmbeddings(), temperature=config.temperature)
        return lambda *texts: module(columns(*texts))
    normalized = config.student_normalization == "min-max"
    module = losses.Distillation(GivenEmbeddings(), normalize_scores=normalized)
    query_mask = torch.ones(BATCH, QUERY, dtype=torch.bool)
    return lambda queries, documents, mask: module(
        [features(queries, query_mask), features(documents.flatten(0, 1), mask.flatten(0, 1))], TEACHER
    )


def their_loss(config):
    losses = pytest.importorskip("sentence_transformers.multi_vector_encoder.losses")
    model = GivenEmbeddings()
    if isinstance(config, Contrastive):
        module = losses.MultiVectorMultipleNegativesRankingLoss(model, scale=1 / config.temperature)
        return lambda *texts: module(columns(*texts), None)
    if isinstance(config, KL):
        module = losses.MultiVectorDistillKLDivLoss(
            model, student_temperature=config.temperature, teacher_temperature=config.teacher_temperature
        )
    else:
        module = losses.MultiVectorMarginMSELoss(model)
    return lambda *texts: module(columns(*texts), TEACHER)


def value_and_gradients(loss, texts):
    queries, documents, _ = texts
    value = loss(*texts)
    return value.detach(), *torch.autograd.grad(value, (queries, documents))


def assert_equal(config, theirs, texts):
    def on_unit_vectors(queries, documents, mask):
        # PyLate normalises within the loss, which takes the part along a unit vector out of its gradient.
        return ours(config, functional.normalize(queries, dim=-1), functional.normalize(documents, dim=-1), mask)

    own = on_unit_vectors if "pylate" in theirs.__qualname__ else lambda *texts: ours(config, *texts)
    for a, b in zip(value_and_gradients(own, texts), value_and_gradients(theirs, texts), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


PYLATE = [
    Contrastive(temperature=0.7),
    KL(name="kl"),
    KL(name="kl", student_normalization="min-max"),
]


@pytest.mark.parametrize("config", PYLATE, ids=str)
def test_pylate_without_padding(config, texts):
    assert_equal(config, pylate_loss(config), texts(padding=False, positive=False))


@pytest.mark.parametrize("config", PYLATE, ids=str)
def test_pylate_with_padding_where_every_similarity_is_positive(config, texts):
    assert_equal(config, pylate_loss(config), texts(padding=True, positive=True))


@pytest.mark.parametrize("config", PYLATE, ids=str)
def test_pylate_lets_padding_beat_a_negative_similarity_and_we_do_not(config, texts):
    given = texts(padding=True, positive=False)
    theirs = pylate_loss(config)
    assert abs(ours(config, *given) - theirs(*given)).item() > 1e-3
    # Padding counts there as a similarity of 0; with a token of similarity 0 in its place ours is the same.
    queries, documents, mask = given
    zero = torch.where(mask[..., None], documents, torch.zeros(()))
    assert float(ours(config, queries, zero, torch.ones_like(mask))) == pytest.approx(float(theirs(*given)), rel=1e-4)


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        Contrastive(temperature=0.7),
        KL(name="kl", temperature=0.5, teacher_temperature=2.0),
        MarginMSE(name="margin-mse"),
    ],
    ids=str,
)
def test_sentence_transformers_with_and_without_padding(config, padding, texts):
    assert_equal(config, their_loss(config), texts(padding=padding, positive=False))
