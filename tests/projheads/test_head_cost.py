"""Costs against formulas, and warnings about widths that hold nothing."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from projheads import Head, build_head, head_class, head_cost, head_warnings, list_heads, list_presets

I, O = 24, 16  # noqa: E741 - widths of token states and embeddings


@pytest.mark.parametrize(
    "text, matrices, others",
    [
        ("linear", I * O, 0),
        ("linear(bias=true)", I * O, O),
        ("ffn", I * I + I * O, 0),
        ("ffn(depth=3, hidden_features=(40, 10), bias=true)", I * 40 + 40 * 10 + 10 * O, 40 + 10 + O),
        ("ffn(depth=3, hidden_features=(40, 40), residual=true)", 2 * I * 40 + 40 * 40 + 40 * O, 0),
        ("ffn(activation=gelu)", I * I + I * O, 0),
        ("glu(factor=2)", 2 * I * 48 + 48 * O, 0),
        ("residual(inner=linear())", 2 * I * O, 0),
        ("residual(inner=linear(), learned_scale=true)", 2 * I * O, 1),
        ("upscaled", I * 48 + 48 * O, 0),
        ("upscaled(residual=true, bias=true)", 2 * I * 48 + 48 * O, 48 + O),
    ],
)
def test_parameters_and_multiply_adds(text, matrices, others):
    cost = head_cost(build_head(text, I, O))
    assert cost.multiply_adds == matrices
    assert cost.parameters == matrices + others


def test_lateon_at_its_released_widths():
    cost = head_cost(build_head("lateon", 768, 128))
    assert (cost.parameters, cost.multiply_adds, cost.folds, cost.why_not) == (4_816_896, 4_816_896, True, None)


@pytest.mark.parametrize("text", [*list_heads(), *list_presets()])
def test_multiply_adds_are_half_the_flops_of_a_batch_by_its_tokens(text):
    head = build_head(text, I, O).train()
    with FlopCounterMode(display=False) as counter:
        head(torch.zeros(2, 5, I))
    assert head_cost(head).multiply_adds == counter.get_total_flops() / 2 / 10


@pytest.mark.parametrize("text", ["ffn(dropout=0.5)", "glu"])
def test_measuring_leaves_the_head_and_the_global_state_alone(text):
    head = build_head(text, I, O)
    before = torch.get_rng_state()
    cost = head_cost(head)
    assert head.training
    assert torch.equal(before, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in head.parameters())
    assert head_cost(head.bfloat16()) == cost


def test_why_a_head_does_not_fold():
    cost = head_cost(build_head("ffn(activation=relu)", I, O))
    assert not cost.folds
    assert cost.why_not == "the activation relu of layer 1"


class Frozen(Head):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("matrix", torch.ones(out_features, in_features))

    def forward(self, x):
        return nn.functional.linear(x, self.matrix)


def test_multiply_adds_are_seen_without_linear_layers_and_without_parameters():
    cost = head_cost(Frozen(I, O))
    assert (cost.parameters, cost.multiply_adds) == (0, I * O)


@pytest.mark.parametrize(
    "text, out_features, rank",
    [
        ("linear", 32, 24),
        ("linear(bias=true)", 32, 24),
        ("ffn(hidden_features=6)", 16, 6),
        ("ffn(depth=3, hidden_features=(40, 12))", 16, 12),
        ("upscaled", 32, 24),
    ],
)
def test_a_linear_head_of_too_low_rank_is_warned_of(text, out_features, rank):
    head = build_head(text, I, out_features)
    (warning,) = head_warnings(head)
    assert f"rank {rank}" in warning
    assert f"{out_features} out_features" in warning
    assert str(head.spec) in warning


@pytest.mark.parametrize(
    "text, out_features",
    [("linear", 24), ("ffn(hidden_features=16)", 16), ("residual(inner=ffn(hidden_features=6))", 16), ("glu", 32)],
)
def test_heads_that_fill_their_width_are_not(text, out_features):
    assert head_warnings(build_head(text, I, out_features)) == []


def test_a_head_that_was_not_built_from_a_spec_is_called_by_its_class():
    assert head_warnings(head_class("linear")(8, 16))[0].startswith("head Linear is linear with rank 8")
