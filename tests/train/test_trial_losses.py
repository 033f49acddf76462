"""A trial on tuples with every loss: the first loss is that of the texts one by one, and training learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from projheads import build_head
from train.data.examples import order_of
from train.training import train_trial

LOSSES = ["contrastive", "kl", "margin-mse"]


def linear():
    return build_head("linear", 16, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tuples(problem):
    """The problem's pairs with two more documents each, and a teacher that knows which belongs to the query."""
    data, embed = problem
    queries = data.examples[:, :1]
    examples = np.concatenate([data.examples, (queries + 7) % 48, (queries + 20) % 48], axis=1)
    scores = np.tile(np.array([3.0, 1.0, 0.0], np.float32), (len(examples), 1))
    return replace(data, examples=examples, teacher_scores=scores), embed


def score(head, embed, query, document):
    """MaxSim of one query with one document."""
    a, b = (
        functional.normalize(head(torch.from_numpy(store[int(index)].astype("float32"))), dim=-1)
        for store, index in ((embed.queries, query), (embed.documents, document))
    )
    return float((a @ b.T).max(dim=1).values.sum())


@pytest.mark.parametrize("loss", LOSSES)
def test_the_first_loss_is_that_of_each_text_alone(loss, settings, tuples):
    data, embed = tuples
    record = train_trial(
        settings(data={"tuples": "a.jsonl"}, loss=loss, max_steps=1), linear(), None, embed, data, seed=0
    )
    head = linear()
    batch = data.examples[next(iter(order_of(data, 8, 1, 0)))]
    with torch.no_grad():
        if loss == "contrastive":
            scores = torch.tensor([[score(head, embed, row[0], d) for d in batch[:, 1:].ravel()] for row in batch])
            # A document that is relevant to the query may be a negative of a different row: it does not count as one.
            for i, row in enumerate(batch):
                scores[i, [c for c, d in enumerate(batch[:, 1:].ravel()) if d == row[0] and c != 3 * i]] = -torch.inf
            expected = functional.cross_entropy(scores, torch.arange(8) * 3)
        else:
            scores = torch.tensor([[score(head, embed, row[0], document) for document in row[1:]] for row in batch])
            teacher = torch.tensor([[3.0, 1.0, 0.0]]).expand(8, 3)
            if loss == "kl":
                p, q = teacher.softmax(1), scores.softmax(1)
                expected = (p * (p / q).log()).sum(1).mean()
            else:
                margins = scores[:, :1] - scores[:, 1:] - torch.tensor([[2.0, 3.0]])
                expected = (margins**2).mean()
    assert record.lines[0]["loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("loss", [{"name": "contrastive", "temperature": 0.2}, "kl", "margin-mse"])
def test_training_learns(loss, settings, tuples):
    data, embed = tuples
    options = settings(data={"tuples": "a.jsonl"}, epochs=20, optimizer={"head_lr": 1e-2}, loss=loss)
    record = train_trial(options, linear(), None, embed, data, seed=0)
    losses = [line["loss"] for line in record.lines if "loss" in line]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert record.validation["accuracy"] > 0.5
