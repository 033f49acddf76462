"""The cheapest equal form: what it is, that it is equal, and what it costs."""

import pytest
import torch
from torch import nn

from projheads import build_head, head_cost, list_heads, list_presets, merging, reparameterize

I, O = 24, 8  # noqa: E741 - widths of token states and embeddings

CHEAPER = {
    "ffn": ("linear", I * O),
    "ffn(bias=true)": ("linear(bias=true)", I * O),
    "residual(inner=ffn())": ("linear", I * O),
    "structured(depth=1, rank=16)": ("linear", I * O),
    "householder": ("linear", I * O),
    "ffn(activation=gelu, idle=0.5)": (
        'residual(inner=ffn(depth=2, hidden_features=12, activation="gelu"))',
        12 * (I + O) + I * O,
    ),
    "ffn(activation=gelu, idle=0.5, hidden_features=40, bias=true)": (
        'residual(inner=ffn(depth=2, hidden_features=20, activation="gelu", bias=true))',
        20 * (I + O) + I * O,
    ),
    "upscaled(activation=silu, residual=true)": (
        'residual(inner=ffn(depth=2, hidden_features=48, activation="silu"))',
        48 * (I + O) + I * O,
    ),
    "upscaled(activation=relu, residual=true, idle=0.25, bias=true)": (
        'residual(inner=ffn(depth=2, hidden_features=36, activation="relu", bias=true))',
        36 * (I + O) + I * O,
    ),
    "residual(inner=ffn(activation=gelu, idle=0.5), scale=2)": (
        'residual(inner=ffn(depth=2, hidden_features=12, activation="gelu"), scale=2.0)',
        12 * (I + O) + I * O,
    ),
    "structured(activation=gelu, rank=14)": ('ffn(depth=2, hidden_features=24, activation="gelu")', I * I + I * O),
    "structured(activation=gelu, rank=7)": (
        'ffn(depth=3, hidden_features=(7, 24), activation=("identity", "gelu", "identity"))',
        7 * 2 * I + I * O,
    ),
    "structured(activation=gelu, kind=block_shuffle, blocks=1, hidden_features=10)": (
        'ffn(depth=2, hidden_features=10, activation="gelu")',
        10 * (I + O),
    ),
    "ffn(depth=4, activation=(identity, gelu, identity, identity), bias=true)": (
        'ffn(depth=2, hidden_features=24, activation="gelu", bias=true)',
        I * I + I * O,
    ),
    "ffn(depth=3, hidden_features=(30, 12), activation=(gelu, identity, identity))": (
        'ffn(depth=2, hidden_features=30, activation="gelu")',
        30 * (I + O),
    ),
    "hadamard": ("linear", I * O),
    "sparse(bias=true)": ("linear(bias=true)", I * O),
    "prenorm(inner=ffn())": ("prenorm(inner=linear())", I * O),
}
SAME = [
    "linear",
    "glu",
    "moe",
    "polynomial",
    "ffn(activation=gelu)",
    "ffn(activation=gelu, idle=0.1)",
    "structured(depth=1, rank=2)",
    "structured(depth=1, kind=block_shuffle)",
    "residual(inner=ffn(activation=gelu))",
    "residual(inner=glu(), scale=0, learned_scale=true)",
    "prenorm(inner=linear())",
]


def trained(text, in_features=I, out_features=O):
    head = build_head(text, in_features, out_features)
    with torch.no_grad():
        for seed, parameter in enumerate(head.parameters()):
            drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
            parameter.add_(drawn, alpha=0.1)
    return head


def difference(first, second):
    x = torch.randn(100, first.in_features, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        one, other = (nn.functional.normalize(head.eval()(x), dim=-1) for head in (first, second))
    return float((one - other).abs().max())


@pytest.mark.parametrize("text", CHEAPER)
def test_the_form_and_its_cost(text):
    head = trained(text)
    cheapest, cost = reparameterize(head), head_cost(head)
    expected, multiply_adds = CHEAPER[text]
    assert str(cheapest.spec) == expected
    assert cost.inference_form == expected
    assert cost.inference_multiply_adds == multiply_adds == head_cost(cheapest).multiply_adds <= cost.multiply_adds
    assert difference(head, cheapest) < 1e-6


@pytest.mark.parametrize("text", SAME)
def test_where_nothing_is_saved_the_head_is_returned(text):
    head = trained(text)
    assert reparameterize(head) is head
    cost = head_cost(head)
    assert (cost.inference_multiply_adds, cost.inference_form) == (cost.multiply_adds, None)


@pytest.mark.parametrize("text", [*list_heads(), *list_presets()])
def test_every_head_has_an_equal_form(text):
    head = trained(text)
    assert difference(head, reparameterize(head)) < 1e-6


def test_only_what_is_merged_is_multiplied(monkeypatch):
    made = []
    real = merging._product
    monkeypatch.setattr(merging, "_product", lambda *pair: made.append(pair) or real(*pair))
    head = trained("ffn(depth=20, bias=true)")
    assert str(reparameterize(head).spec) == "linear(bias=true)"
    assert len(made) == 19


def test_equal_widths_keep_the_idle_channels():
    """A residual head's skip is then the identity, which cannot hold a matrix."""
    head = trained("ffn(activation=gelu, idle=0.5)", 24, 24)
    assert reparameterize(head) is head


@pytest.mark.parametrize("training", [True, False])
def test_dtype_and_mode_are_kept_and_the_head_is_not_changed(training):
    head = trained("ffn(activation=gelu, idle=0.5)").bfloat16().train(training)
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    cheapest = reparameterize(head)
    assert {parameter.dtype for parameter in cheapest.parameters()} == {torch.bfloat16}
    assert cheapest.training == head.training == training
    assert all(torch.equal(before[name], tensor) for name, tensor in head.state_dict().items())
