"""Every head against its formula, written out with plain tensors."""

import math

import pytest
import torch

from projheads import ProjheadsError, build_head, list_heads, list_presets

ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "tanh": lambda x: (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1),
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
}


def built(text, in_features=6, out_features=4):
    """Build a head in float64 with its weights by name, and token states (5, in_features)."""
    head = build_head(text, in_features, out_features).double().eval()
    x = torch.randn(5, in_features, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return head, dict(head.named_parameters()), x


def dense(weights, layer, x, activation="identity", residual=False):
    """One ``Dense`` of PyLate: act(W x + b), plus x or R x."""
    y = x @ weights[f"layers.{layer}.linear.weight"].T
    if f"layers.{layer}.linear.bias" in weights:
        y = y + weights[f"layers.{layer}.linear.bias"]
    y = ACTIVATIONS[activation](y)
    if residual:
        matrix = weights.get(f"layers.{layer}.residual.weight")
        y = y + (x if matrix is None else x @ matrix.T)
    return y


@pytest.mark.parametrize("bias", [False, True])
def test_linear(bias):
    head, weights, x = built(f"linear(bias={bias})")
    expected = x @ weights["linear.weight"].T + (weights["linear.bias"] if bias else 0)
    torch.testing.assert_close(head(x), expected)


@pytest.mark.parametrize("activation", ["identity", "relu", "gelu", "silu", "tanh"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_ffn_has_activation_and_residual_on_every_layer_but_the_last(activation, residual, bias):
    head, weights, x = built(
        f"ffn(depth=3, hidden_features=(9, 9), activation={activation}, residual={residual}, bias={bias})"
    )
    assert ("layers.0.residual.weight" in weights) == residual
    assert "layers.1.residual.weight" not in weights
    y = dense(weights, 0, x, activation, residual)
    y = dense(weights, 1, y, activation, residual)
    torch.testing.assert_close(head(x), dense(weights, 2, y))


def test_ffn_layer_by_layer():
    head, weights, x = built(
        "ffn(depth=3, hidden_features=(6, 8), activation=(relu, identity, tanh), residual=(true, false, true),"
        " bias=(true, false, true))"
    )
    assert set(weights) == {
        "layers.0.linear.weight",
        "layers.0.linear.bias",
        "layers.1.linear.weight",
        "layers.2.linear.weight",
        "layers.2.linear.bias",
        "layers.2.residual.weight",
    }
    y = dense(weights, 0, x, "relu", residual=True)
    y = dense(weights, 1, y)
    torch.testing.assert_close(head(x), dense(weights, 2, y, "tanh", residual=True))


@pytest.mark.parametrize(
    "text, in_features, out_features, widths",
    [
        ("ffn", 6, 4, [6, 6, 4]),
        ("ffn(depth=4)", 6, 4, [6, 6, 6, 6, 4]),
        ("ffn(hidden_features=10)", 6, 4, [6, 10, 4]),
        ("ffn(depth=3, factor=1.5)", 6, 4, [6, 9, 9, 4]),
        ("lateon", 768, 128, [768, 1536, 768, 128]),
        ("lateon", 384, 128, [384, 1536, 768, 128]),
        ("edge", 256, 48, [256, 512, 48]),
        ("pylate_gelu", 768, 128, [768, 512, 128]),
    ],
)
def test_widths_of_chains(text, in_features, out_features, widths):
    layers = build_head(text, in_features, out_features).layers
    assert [layers[0].in_features, *(layer.out_features for layer in layers)] == widths
    assert not any(layer.linear.bias is not None for layer in layers)


def test_lateon_has_its_residuals_where_they_were_released():
    layers = build_head("lateon", 768, 128).layers
    assert [layer.use_residual for layer in layers] == [True, True, False]
    assert [tuple(layer.residual.weight.shape) for layer in layers[:2]] == [(1536, 768), (768, 1536)]
    assert {layer.activation_name for layer in layers} == {"identity"}


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "gelu", "silu", "identity"])
@pytest.mark.parametrize("bias", [False, True])
def test_glu(activation, bias):
    head, weights, x = built(f"glu(activation={activation}, factor=1.5, bias={bias})")

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + (weights[f"{name}.bias"] if bias else 0)

    assert weights["gate.weight"].shape == (9, 6)
    expected = linear("output", ACTIVATIONS[activation](linear("gate", x)) * linear("up", x))
    torch.testing.assert_close(head(x), expected)


@pytest.mark.parametrize("out_features", [4, 6])
@pytest.mark.parametrize("scale, learned", [(1.0, False), (0.5, False), (0.5, True), (0.0, True)])
def test_residual(out_features, scale, learned):
    head, weights, x = built(f"residual(inner=glu(), scale={scale}, learned_scale={learned})", 6, out_features)
    assert ("skip.weight" in weights) == (out_features != 6)
    assert ("scale" in weights) == learned
    skip = x @ weights["skip.weight"].T if out_features != 6 else x
    torch.testing.assert_close(head(x), skip + scale * head.inner(x))
    if learned:
        with torch.no_grad():
            head.scale.fill_(3.0)
        torch.testing.assert_close(head(x), skip + 3 * head.inner(x))
        head.reset_parameters()
        assert head.scale.item() == scale


def test_residual_holds_any_head():
    head, weights, x = built("residual(inner=residual(inner=linear()), scale=2)")
    inner = x @ weights["inner.skip.weight"].T + x @ weights["inner.inner.linear.weight"].T
    torch.testing.assert_close(head(x), x @ weights["skip.weight"].T + 2 * inner)


@pytest.mark.parametrize("activation", ["identity", "gelu"])
@pytest.mark.parametrize("residual", [False, True])
def test_upscaled(activation, residual):
    head, weights, x = built(f"upscaled(factor=1.5, activation={activation}, residual={residual})")
    assert weights["up.linear.weight"].shape == (9, 6)
    hidden = ACTIVATIONS[activation](x @ weights["up.linear.weight"].T)
    if residual:
        hidden = hidden + x @ weights["up.residual.weight"].T
    torch.testing.assert_close(head(x), hidden @ weights["output.weight"].T)


def test_upscaled_is_twice_as_wide_by_default():
    assert build_head("upscaled", 6, 4).output.in_features == 12


@pytest.mark.parametrize(
    "text, kept",
    [("ffn(activation=relu, dropout=0.5)", 0.5), ("glu(dropout=0.25)", 0.75), ("upscaled(dropout=0.9)", 0.1)],
)
def test_dropout_drops_hidden_elements_in_training_only(text, kept):
    head = build_head(text, 200, 4)
    x = torch.ones(50, 200)
    seen = []
    output = head.layers[1].linear if hasattr(head, "layers") else head.output
    output.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head(x)
    head.eval()(x)
    training, inference = seen
    alive = inference != 0
    assert (training[alive] != 0).float().mean().item() == pytest.approx(kept, abs=0.05)
    dropped = training != 0
    torch.testing.assert_close(training[dropped], inference[dropped] / kept)


def test_dropout_leaves_the_skip_alone():
    head = build_head("ffn(residual=true, dropout=0.999)", 6, 4)
    seen = []
    head.layers[1].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    x = torch.ones(3, 6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head(x)
    torch.testing.assert_close(seen[0], x)


@pytest.mark.parametrize(
    "text, line",
    [
        ("ffn(depth=0)", 'head "ffn": depth=0 must be at least 2; use "linear" for a single layer'),
        ("ffn(depth=1)", "depth=1 must be at least 2"),
        ("ffn(hidden_features=0)", 'head "ffn": the intermediate width is 0; it must be at least 1'),
        ("ffn(factor=-1)", "width is -6; it must be at least 1"),
        ("ffn(hidden_features=4, factor=2)", 'head "ffn": set hidden_features or factor, not both'),
        ("ffn(depth=3, hidden_features=(4,))", "hidden_features has 1 values; it needs 2"),
        ("ffn(activation=(relu,))", "activation has 1 values; it needs 2"),
        ("ffn(dropout=1)", 'head "ffn": dropout=1.0 must be in [0, 1)'),
        ("glu(factor=0.01)", 'head "glu": the intermediate width is 0; it must be at least 1'),
        ("glu(dropout=-0.1)", 'head "glu": dropout=-0.1 must be in [0, 1)'),
        ("upscaled(factor=1)", 'head "upscaled": factor=1.0 is too small; use a factor above 1'),
        ("residual(scale=0)", 'head "residual": scale=0 removes the inner head'),
        ("residual(inner=ffn(depth=0))", 'head "ffn": depth=0 must be at least 2'),
    ],
)
def test_values_out_of_range_get_one_line(text, line):
    with pytest.raises(ProjheadsError) as error:
        build_head(text, 6, 4)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("in_features, out_features, name", [(0, 4, "in_features"), (6, -1, "out_features")])
@pytest.mark.parametrize("text", [*list_heads(), *list_presets()])
def test_widths_below_1_are_refused(text, in_features, out_features, name):
    with pytest.raises(ProjheadsError, match=f"{name} is"):
        build_head(text, in_features, out_features)
