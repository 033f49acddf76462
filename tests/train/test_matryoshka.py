import pytest
import torch

from projheads import build_head
from projheads.scoring import maxsim
from train.data.examples import order_of
from train.embedding.embedders import pad
from train.matryoshka import prefixes
from train.training import train_trial


def test_every_width_is_the_normalised_beginning():
    generator = torch.Generator().manual_seed(0)
    queries, documents = (
        torch.nn.functional.normalize(torch.randn(3, 5, 8, generator=generator), dim=-1) for _ in range(2)
    )
    (full, full_documents), (half, half_documents) = prefixes(queries, documents, [8, 4])
    assert full is queries
    assert full_documents is documents
    by_hand = queries[..., :4] / queries[..., :4].pow(2).sum(-1, keepdim=True).sqrt()
    assert torch.allclose(half, by_hand, atol=1e-6)
    assert half_documents.shape == (3, 5, 4)
    assert [pair[0] is queries for pair in prefixes(queries, documents, [])] == [True]


def test_the_loss_is_the_mean_over_the_widths(settings, problem):
    data, embed = problem
    head = build_head("linear", 16, 8, generator=torch.Generator().manual_seed(0))
    (batch,) = order_of(data, 8, 1, 0)
    with torch.no_grad():
        queries, queries_mask = pad(*embed(head, data.examples[batch, 0], is_query=True))
        documents, documents_mask = pad(*embed(head, data.examples[batch, 1], is_query=False))
    options = settings(max_steps=1, validation_pairs=0, validations=0, loss={"temperature": 0.5})
    record = train_trial(options, head, None, embed, data, 0, widths=[8, 4, 2])
    losses = []
    for width in (8, 4, 2):
        q, d = (
            x[..., :width] / x[..., :width].norm(dim=-1, keepdim=True).clamp(min=1e-9) for x in (queries, documents)
        )
        scores = maxsim(q, d, queries_mask, documents_mask, backend="reference") / 0.5
        losses.append(-scores.log_softmax(1).diagonal().mean().item())
    assert record.lines[0]["loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert record.lines[0]["loss"] != pytest.approx(losses[0], rel=1e-3)


def test_short_embeddings_are_better_for_it(settings, problem):
    data, embed = problem
    losses = []
    for widths in ((8,), (8, 2)):
        head = build_head("linear", 16, 8, generator=torch.Generator().manual_seed(0))
        options = settings(epochs=20, optimizer={"head_lr": 1e-2}, loss={"temperature": 0.2})
        train_trial(options, head, None, embed, data, 0, widths=widths)
        with torch.no_grad():
            queries, queries_mask = pad(*embed(head, data.validation[:, 0], is_query=True))
            documents, documents_mask = pad(*embed(head, data.validation[:, 1], is_query=False))
        (q, d) = next(iter(prefixes(queries, documents, [2])))
        scores = maxsim(q, d, queries_mask, documents_mask)
        losses.append(float(-(scores / 0.2).log_softmax(1).diagonal().mean()))
    assert losses[1] < losses[0]
