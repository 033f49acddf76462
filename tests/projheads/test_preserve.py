"""Heads that start as a given linear map: an old head's, or the principal directions of token states."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from projheads import Head, ProjheadsError, build_head, fold, list_heads, list_presets

EVERY_HEAD = [*list_heads(), *list_presets()]
POSSIBLE = [
    "linear",
    "lateon",
    "paper_best",
    "paper_glu",
    "pylate_gelu",
    "linear(bias=true)",
    "ffn(activation=gelu)",
    "ffn(activation=relu, bias=true)",
    "ffn(depth=4, activation=silu, hidden_features=(32, 40, 64))",
    "ffn(depth=3, activation=gelu, residual=true, bias=true)",
    "ffn(depth=3, activation=tanh, residual=true)",
    "ffn(activation=relu, residual=true, hidden_features=100)",
    "ffn(depth=3, activation=(gelu, relu, tanh), residual=(true, false, true), hidden_features=(64, 48))",
    "ffn(depth=3, residual=(true, true, true), hidden_features=(64, 16))",
    "ffn(depth=3, residual=(true, false, true), hidden_features=(64, 16), activation=(tanh, identity, silu))",
    "ffn(hidden_features=16, bias=true)",
    "upscaled(activation=gelu)",
    "upscaled(activation=tanh, residual=true, bias=true, dropout=0.1)",
    "upscaled(activation=relu, residual=true)",
    "glu(activation=sigmoid)",
    "glu(activation=silu, bias=true)",
    "glu(activation=relu, bias=true, hidden_features=20)",
    "residual(inner=glu(), scale=0.5)",
    "residual(inner=pylate_gelu, learned_scale=true)",
    "residual(inner=glu(), scale=0, learned_scale=true)",
    "residual(inner=residual(inner=edge))",
]
REFUSED = {
    "glu": "its gate is closed at 0 and has no bias to hold it open; set bias=true",
    "ffn(activation=tanh)": "the activation tanh of layer 1 has no skip around it and does not pass a linear map",
    "ffn(activation=gelu, hidden_features=31)": (
        "layer 1 is 31 wide; carrying the map in pairs of gelu units needs 32"
    ),
    "ffn(activation=(gelu, relu))": "the activation relu of layer 2 comes after the last matrix",
    "ffn(activation=relu, residual=true)": ("the branch of layer 1 would start at zero, where relu has no gradient"),
    "ffn(hidden_features=15)": "layer 1 is 15 wide; carrying the map needs 16",
    "glu(activation=sigmoid, hidden_features=12)": "its hidden layer is 12 wide; carrying the map needs 16",
}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def tokens(count, width=64):
    return torch.randn(count, width, generator=generator(3))


def old_head(text="linear", in_features=64, out_features=16):
    """A head with weights that no constructor draws."""
    head = build_head(text, in_features, out_features, generator=generator(7)).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator(8)), alpha=0.3)
    return head


def embeddings(head, x):
    with torch.no_grad():
        return F.normalize(head.eval()(x), dim=-1)


def preserved(text, old, seed=1):
    return build_head(text, 64, old(tokens(1)).shape[-1], init="preserve", old=old, generator=generator(seed))


def largest_difference(first, second):
    return float((embeddings(first, tokens(200)) - embeddings(second, tokens(200))).abs().max())


def dead_parameters(head, steps):
    """Train with the gradient of a random linear loss; return the names of parameters that stay without gradient."""
    without = dict(head.named_parameters())
    x, target = tokens(64), torch.randn(64, head.out_features, generator=generator(9))
    for _ in range(steps):
        head.zero_grad()
        (head(x) * target).sum().backward()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter -= 1e-3 * parameter.grad
        without = {name: one for name, one in without.items() if not one.grad.any()}
    return list(without)


@pytest.mark.parametrize("text", POSSIBLE)
def test_the_new_head_computes_what_the_old_one_did_and_all_of_it_learns(text):
    old = old_head()
    new = preserved(text, old)
    assert new.training
    assert largest_difference(new, old) < 1e-5
    assert dead_parameters(new.eval(), steps=2) == []


@pytest.mark.parametrize("text", EVERY_HEAD)
@pytest.mark.parametrize("out_features", [16, 64])
def test_every_head_does_so_or_says_why_not(text, out_features):
    """Equal widths are those where a skip is the identity."""
    old = old_head("linear", 64, out_features)
    refused = None
    try:
        new = preserved(text, old)
    except ProjheadsError as error:
        refused = str(error)
    if refused:
        assert f"head {text} cannot take over a linear map: " in refused
    else:
        assert largest_difference(new, old) < 1e-5
        assert dead_parameters(new.eval(), steps=2) == []


@pytest.mark.parametrize("text", REFUSED)
def test_what_can_not_take_over_says_why(text):
    with pytest.raises(ProjheadsError) as error:
        preserved(text, old_head())
    assert str(error.value).startswith("head ")
    assert str(error.value).endswith(f" cannot take over a linear map: {REFUSED[text]}")


@pytest.mark.parametrize("old", ["lateon", "edge", "paper_residual", "ffn(depth=3, bias=true)"])
def test_a_deeper_old_head_is_taken_over_as_what_it_folds_into(old):
    old = old_head(old)
    new = preserved("upscaled(activation=gelu, bias=true)", old)
    assert largest_difference(new, old) < 1e-5


def test_a_narrow_layer_takes_over_a_map_of_low_rank():
    old = old_head("ffn(hidden_features=5)")
    for text in ("ffn(hidden_features=5)", "ffn(hidden_features=10, activation=gelu)"):
        assert largest_difference(preserved(text, old), old) < 1e-5
    with pytest.raises(ProjheadsError, match="layer 1 is 4 wide; carrying the map needs 5"):
        preserved("ffn(hidden_features=4)", old)


def test_an_old_head_that_is_not_linear_is_refused():
    with pytest.raises(ProjheadsError, match="does not fold into one matrix because of the activation gelu of layer 1"):
        preserved("linear", old_head("ffn(activation=gelu)"))


def test_a_bias_needs_a_place():
    old = old_head("linear(bias=true)")
    assert largest_difference(preserved("residual(inner=linear(bias=true), scale=2.0)", old), old) < 1e-5
    for text in ("linear", "lateon", "ffn(bias=(true, false))", "residual(inner=glu())"):
        with pytest.raises(ProjheadsError, match="the map has a bias, but the last layer has none"):
            preserved(text, old)
    with pytest.raises(ProjheadsError, match="the activation gelu of layer 2 comes between its bias and the output"):
        preserved("ffn(activation=gelu, bias=true, residual=(true, true), hidden_features=64)".replace(
            "activation=gelu", "activation=(gelu, gelu)"), old)  # fmt: skip


def test_other_widths_and_missing_heads_are_named():
    with pytest.raises(ProjheadsError, match="head linear maps 64 -> 8; it cannot take over a map 64 -> 16"):
        build_head("linear", 64, 8, init="preserve", old=old_head())
    with pytest.raises(ProjheadsError, match="init preserve needs the old head"):
        build_head("linear", 64, 16, init="preserve")
    broken = nn.Linear(64, 16)
    with torch.no_grad():
        broken.weight[0, 0] = torch.nan
    with pytest.raises(ProjheadsError, match="weights that are not finite"):
        build_head("linear", 64, 16, init="preserve", old=broken)


def test_the_factors_of_a_deep_chain_are_balanced():
    """W_2' W_2 = W_1 W_1' (Saxe et al., 2014), and the singular values are the square roots of the old matrix's."""
    old = old_head()
    first, second = (layer.linear.weight.double() for layer in preserved("ffn(hidden_features=16)", old).layers)
    torch.testing.assert_close(second.T @ second, first @ first.T, atol=1e-5, rtol=0)
    values = torch.linalg.svdvals(old.linear.weight.double()).sqrt()
    torch.testing.assert_close(torch.linalg.svdvals(first), values, atol=1e-5, rtol=0)


def test_a_branch_starts_with_its_last_layer_at_zero_alone():
    new = preserved("residual(inner=ffn(depth=3, activation=gelu))", old_head())
    zero = [name for name, parameter in new.named_parameters() if not parameter.any()]
    assert zero == ["inner.layers.2.linear.weight"]
    torch.testing.assert_close(new.skip.weight, old_head().linear.weight, rtol=0, atol=0)


def test_units_beyond_those_that_carry_the_map_are_alive():
    """None of the hidden units has both its incoming and its outgoing weights at 0, where it would stay."""
    up, down = (layer.linear.weight for layer in preserved("ffn(activation=gelu)", old_head()).layers)
    assert not down[:, 32:].any()
    assert (up[32:].norm(dim=1) > 0.1).all()
    assert len(torch.unique(up[32:], dim=0)) == 32


def test_the_seed_decides_the_bits_and_not_the_map():
    old = old_head()
    first, again, other = (preserved("lateon", old, seed) for seed in (1, 1, 2))
    weights = [head.layers[0].residual.weight for head in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2], atol=1e-2)
    assert largest_difference(first, other) < 1e-5


def test_the_old_head_stays_as_it_was():
    old = old_head("lateon")
    before = {name: tensor.clone() for name, tensor in old.state_dict().items()}
    preserved("ffn", old)
    assert all(torch.equal(before[name], tensor) for name, tensor in old.state_dict().items())


def test_a_third_partys_head_takes_part_by_its_own_method():
    class Scaled(Head):
        def __init__(self, in_features, out_features):
            super().__init__(in_features, out_features)
            self.linear = nn.Linear(in_features, out_features, bias=False)
            self.gain = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return self.gain * self.linear(x)

        def preserve(self, weight, bias):
            self.linear.weight.copy_(weight / self.gain)

    from projheads.init import take_over

    head, old = Scaled(64, 16), old_head()
    take_over(head, old.linear.weight)
    assert largest_difference(head, old) < 1e-5


def test_pca_is_the_best_linear_map_of_its_width():
    """Against numpy's singular value decomposition of the normalised states, not centred."""
    sample = tokens(300) @ torch.diag(torch.linspace(0.1, 2, 64)) + 0.5
    weight = build_head("linear", 64, 16, init="pca", sample=sample).linear.weight.detach().double().numpy()
    states = F.normalize(sample.double(), dim=-1).numpy()
    _, _, expected = np.linalg.svd(states, full_matrices=False)
    expected = expected[:16]
    np.testing.assert_allclose(np.abs(np.sum(weight * expected, axis=1)), 1, atol=1e-6)
    np.testing.assert_allclose(weight @ weight.T, np.eye(16), atol=1e-6)
    largest = np.abs(weight).argmax(axis=1)
    assert (weight[np.arange(16), largest] > 0).all()

    def lost(matrix):
        kept = states @ matrix.T
        return np.square(states @ states.T - kept @ kept.T).sum()

    drawn = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 16)))[0].T
    assert lost(weight) < 0.2 * lost(drawn)


@pytest.mark.parametrize("text", EVERY_HEAD)
def test_pca_starts_every_head_that_can_as_the_same_map(text):
    sample = tokens(300) + 0.5
    linear = build_head("linear", 64, 16, init="pca", sample=sample)
    try:
        head = build_head(text, 64, 16, init="pca", sample=sample, generator=generator(4))
    except ProjheadsError:
        pytest.skip("it takes over no linear map")
    assert largest_difference(head, linear) < 1e-5


def test_pca_needs_enough_directions():
    with pytest.raises(ProjheadsError, match=r"needs a sample of token states \(n, 64\), got none"):
        build_head("linear", 64, 16, init="pca")
    with pytest.raises(ProjheadsError, match="needs 16 token states, one for each of the out_features, got 15"):
        build_head("linear", 64, 16, init="pca", sample=tokens(15))
    with pytest.raises(ProjheadsError, match=r"pca has 64 directions, .* fewer than the 65 out_features"):
        build_head("linear", 64, 65, init="pca", sample=tokens(100))


def test_pca_keeps_all_cosines_of_states_that_span_fewer_directions_than_it_has():
    sample = tokens(300)[:, :20] @ tokens(20)
    weight = fold(build_head("linear", 64, 32, init="pca", sample=sample)).weight
    assert torch.linalg.matrix_rank(sample) == 20
    assert torch.allclose(weight @ weight.T, torch.eye(32), atol=1e-5)
    states = F.normalize(sample, dim=-1)
    embeddings = states @ weight.T
    assert torch.allclose(embeddings @ embeddings.T, states @ states.T, atol=1e-5)


def test_the_map_survives_folding():
    old = old_head()
    assert largest_difference(fold(preserved("lateon", old)), old) < 1e-5
