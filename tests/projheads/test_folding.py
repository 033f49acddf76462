"""Folding: one matrix with the same embeddings, or the reason why there is none."""

import copy

import pytest
import torch
from torch import nn

from projheads import Head, ProjheadsError, build_head, fold, folds, list_heads, list_presets

LINEAR = [
    "linear",
    "linear(bias=true)",
    "ffn(depth=4, bias=true)",
    "ffn(hidden_features=6)",
    "ffn(depth=3, hidden_features=(24, 40), residual=(true, true, true), bias=(true, false, true))",
    "ffn(dropout=0.5)",
    "residual",
    "residual(inner=linear(bias=true), scale=0.3)",
    "residual(inner=residual(inner=edge), scale=-2, learned_scale=true)",
    "upscaled",
    "upscaled(residual=true, bias=true, dropout=0.1)",
    "lateon",
    "edge",
    "paper_best",
]
NOT_LINEAR = {
    "ffn(activation=gelu)": "the activation gelu of layer 1",
    "ffn(depth=3, activation=(identity, relu, identity))": "the activation relu of layer 2",
    "glu": "the product with the gate",
    "glu(activation=identity)": "the product with the gate",
    "residual(inner=ffn(activation=tanh))": "the activation tanh of layer 1",
    "upscaled(activation=silu)": "the activation silu",
    "pylate_gelu": "the activation gelu of layer 1",
}


def moved(text, in_features=24, out_features=16):
    """Build a head with biases and scales off their first values."""
    head = build_head(text, in_features, out_features)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.1)
    return head


def embeddings(module, x):
    return nn.functional.normalize(module.eval()(x), dim=-1)


def tokens(n=100, width=24):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("out_features", [16, 24, 32])
@pytest.mark.parametrize("text", LINEAR)
def test_one_matrix_gives_the_same_embeddings(text, out_features):
    head = moved(text, out_features=out_features)
    assert folds(head)
    folded = fold(head)
    assert type(folded) is nn.Linear
    assert (folded.in_features, folded.out_features) == (24, out_features)
    x = tokens()
    assert (embeddings(folded, x) - embeddings(head, x)).abs().max() < 1e-6
    assert (folded.bias is not None) == bool(head(torch.zeros(24)).any())


def test_the_matrix_is_the_product_in_float64():
    head = moved("ffn(depth=3, hidden_features=(24, 40), residual=true)").double()
    first, second, third = (layer.linear.weight for layer in head.layers)
    product = third @ (second + head.layers[1].residual.weight) @ (first + torch.eye(24))
    torch.testing.assert_close(fold(head).weight, product, rtol=0, atol=1e-14)


def test_lateon_folds_to_1e_6_at_its_released_widths():
    head = build_head("lateon", 768, 128)
    x = tokens(64, 768)
    assert (embeddings(fold(head), x) - embeddings(head, x)).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_mode_and_input_are_kept(dtype):
    head = moved("ffn(bias=true, residual=true, dropout=0.5)").to(dtype)
    before = copy.deepcopy(head.state_dict())
    for training in (True, False):
        head.train(training)
        folded = fold(head)
        assert folded.training == head.training == training
        assert {parameter.dtype for parameter in folded.parameters()} == {dtype}
        assert all(parameter.is_contiguous() and parameter.requires_grad for parameter in folded.parameters())
    assert {name: tensor.dtype for name, tensor in head.state_dict().items()} == dict.fromkeys(before, dtype)
    assert all(torch.equal(before[name], tensor) for name, tensor in head.state_dict().items())
    own = {parameter.data_ptr() for parameter in head.parameters()}
    assert not own & {parameter.data_ptr() for parameter in fold(moved("linear")).parameters()}


def test_half_precision_is_folded_before_it_is_rounded():
    head = moved("ffn(depth=3)").bfloat16()
    assert torch.equal(fold(head).weight, fold(copy.deepcopy(head).double()).weight.bfloat16())


@pytest.mark.parametrize("text, part", NOT_LINEAR.items())
def test_what_is_not_linear_is_named(text, part):
    head = build_head(text, 24, 16)
    assert not folds(head)
    with pytest.raises(ProjheadsError) as error:
        fold(head)
    assert str(error.value) == f"head {head.spec} does not fold into one matrix because of {part}"


@pytest.mark.parametrize("text", [*list_heads(), *list_presets()])
def test_every_head_folds_or_says_why_not(text):
    head = moved(text)
    if folds(head):
        assert (embeddings(fold(head), tokens()) - embeddings(head, tokens())).abs().max() < 1e-6
    else:
        with pytest.raises(ProjheadsError, match="because of the "):
            fold(head)


class Silent(Head):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x):
        return self.linear(x)


class Outspoken(Silent):
    def nonlinear_part(self):
        return None


def test_heads_that_say_nothing_do_not_fold_and_those_that_do_fold():
    with pytest.raises(ProjheadsError, match="Silent, which does not declare that it is linear"):
        fold(Silent(24, 16))
    head = Outspoken(24, 16)
    torch.testing.assert_close(fold(head).weight, head.linear.weight)
    torch.testing.assert_close(fold(head).bias, head.linear.bias)


def test_sequences_of_torchs_own_layers_fold():
    chain = nn.Sequential(nn.Linear(24, 10), nn.Dropout(0.5), nn.Sequential(nn.Identity(), nn.Linear(10, 16)))
    assert (embeddings(fold(chain), tokens()) - embeddings(chain, tokens())).abs().max() < 1e-6
    with pytest.raises(ProjheadsError, match="GELU, which is not known to be linear"):
        fold(nn.Sequential(nn.Linear(24, 10), nn.GELU(), nn.Linear(10, 16)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_is_kept():
    head = moved("ffn(bias=true)").cuda()
    assert {parameter.device.type for parameter in fold(head).parameters()} == {"cuda"}
