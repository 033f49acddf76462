import math

import pytest
import torch

from train.loss import contrastive_loss, pair_accuracy


def test_contrastive_loss_is_the_formula():
    scores = torch.tensor([[3.0, 1.0, 0.5], [0.0, 2.0, 1.0]], dtype=torch.float64)
    ignore = torch.tensor([[False, False, True], [False, False, False]])
    first = -math.log(math.exp(3 / 0.5) / (math.exp(3 / 0.5) + math.exp(1 / 0.5)))
    second = -math.log(math.exp(2 / 0.5) / sum(math.exp(value / 0.5) for value in (0, 2, 1)))
    assert float(contrastive_loss(scores, 0.5, ignore)) == pytest.approx((first + second) / 2, abs=1e-12)


def test_an_ignored_document_gets_no_gradient():
    scores = torch.zeros(2, 2, requires_grad=True)
    contrastive_loss(scores, ignore=torch.tensor([[False, True], [False, False]])).backward()
    assert scores.grad is not None
    assert scores.grad[0].tolist() == [0.0, 0.0]
    assert scores.grad[1].tolist() == [0.25, -0.25]


def test_accuracy_counts_a_tie_as_lost():
    scores = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0], [5.0, 0.0, 1.0]])
    assert pair_accuracy(scores) == pytest.approx(1 / 3)
    ignore = torch.tensor([[False, True, False], [False, False, False], [True, False, False]])
    assert pair_accuracy(scores, ignore) == 1.0
