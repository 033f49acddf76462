"""The linear stand-in against numpy's least squares, and on heads of which it is known how linear they are."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from projheads import ProjheadsError, build_head, fold, folds, linearise, list_heads, list_presets


def tokens(count, width=24, seed=3):
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(9))
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) @ mixing / 5 + 0.3


@pytest.mark.parametrize("bias", [False, True])
def test_it_is_least_squares_of_errors_relative_to_the_outputs_norm(bias):
    head, states = build_head("ffn(activation=gelu)", 24, 16).double(), tokens(500).double()
    fit = linearise(head, states, bias=bias)
    assert (fit.fitted, fit.held_out) == (400, 100)
    outputs = head(states).detach().numpy()
    norms = np.linalg.norm(outputs, axis=1, keepdims=True)
    inputs = np.hstack([states.numpy(), np.ones((500, 1))]) if bias else states.numpy()
    expected = np.linalg.lstsq((inputs / norms)[:400], (outputs / norms)[:400], rcond=None)[0].T
    np.testing.assert_allclose(fit.linear.weight.detach().numpy(), expected[:, :24], atol=1e-8)
    ours = inputs[400:] @ expected.T
    ours, theirs = ours / np.linalg.norm(ours, axis=1, keepdims=True), (outputs / norms)[400:]
    assert fit.mean_cosine == pytest.approx((ours * theirs).sum(1).mean(), abs=1e-8)
    r2 = 1 - np.square(ours - theirs).sum() / np.square(theirs - theirs.mean(0)).sum()
    assert fit.r2 == pytest.approx(r2, abs=1e-8)
    assert 0.3 < fit.r2 < 0.99


@pytest.mark.parametrize("text", [*list_heads(), *list_presets()])
def test_a_linear_head_is_found_again_and_every_other_is_not(text):
    head, states = build_head(text, 24, 16), tokens(400)
    fit = linearise(head, states)
    if folds(head):
        assert fit.r2 == pytest.approx(1, abs=1e-6)
        unseen = tokens(50, seed=4)
        ours, theirs = (F.normalize(one(unseen), dim=-1) for one in (fit.linear, fold(head)))
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    else:
        assert fit.mean_cosine < 1
        assert fit.r2 < 0.9999


def test_no_other_matrix_fits_better():
    head, states = build_head("glu", 24, 16), tokens(2000)
    fit = linearise(head, states)
    with torch.no_grad():
        outputs = head(states[: fit.fitted])

        def error(weight):
            return ((states[: fit.fitted] @ weight.T - outputs) / outputs.norm(dim=-1, keepdim=True)).square().sum()

        least = error(fit.linear.weight)
        for seed in range(20):
            step = 0.01 * torch.randn(16, 24, generator=torch.Generator().manual_seed(seed))
            assert error(fit.linear.weight + step) > least


def test_a_bias_follows_an_output_that_does_not_start_at_zero():
    head = nn.Sequential(nn.Linear(24, 16), nn.GELU())
    nn.init.constant_(head[0].bias, 2.0)
    fits = [linearise(head, tokens(2000), bias=bias) for bias in (False, True)]
    assert fits[1].r2 > fits[0].r2
    assert fits[0].linear.bias is None


def test_states_that_span_little_have_a_fit_of_least_norm():
    head, states = build_head("ffn(activation=gelu)", 24, 16), tokens(400)
    states[:, 12:] = 0
    weight = linearise(head, states).linear.weight
    assert not weight[:, 12:].any()
    assert weight.abs().max() < 10


def test_mode_dtype_and_weights_of_the_head_are_kept():
    head = build_head("ffn(activation=gelu, dropout=0.5)", 24, 16).bfloat16()
    before = [parameter.clone() for parameter in head.parameters()]
    first, again = (linearise(head, tokens(400)) for _ in range(2))
    assert head.training
    assert all(torch.equal(a, b) for a, b in zip(before, head.parameters(), strict=True))
    assert first.linear.weight.dtype == torch.bfloat16
    assert torch.equal(first.linear.weight, again.linear.weight)


def test_what_can_not_be_fitted_is_said():
    with pytest.raises(ProjheadsError, match=r"needs at least 5 token states .* got shape \(4, 24\)"):
        linearise(build_head("glu", 24, 16), tokens(4))
    head = build_head("linear", 24, 16)
    nn.init.zeros_(head.linear.weight)
    with pytest.raises(ProjheadsError, match="head linear: the embedding of every token state is 0"):
        linearise(head, tokens(50))
    nn.init.constant_(head.linear.weight, torch.inf)
    with pytest.raises(ProjheadsError, match="not finite"):
        linearise(head, tokens(50))
