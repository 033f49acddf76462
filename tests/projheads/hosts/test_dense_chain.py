"""Heads as chains of the hosts' own Dense layers, and back."""

import pytest
import torch
from torch import nn

from projheads import HeadSpec, ProjheadsError, build_head, fold, list_heads, list_presets
from projheads.hosts.dense_chain import dense_layers, from_dense_chain

EXPRESSIBLE = [
    "linear",
    "linear(bias=true)",
    'linear(activation="gelu", bias=true)',
    'residual(inner=linear(activation="tanh"))',
    "ffn(depth=2)",
    'ffn(depth=3, activation="gelu", bias=true)',
    'ffn(depth=3, hidden_features=(16, 24), activation=("relu", "tanh", "silu"), residual=(true, false, true))',
    "ffn(depth=2, dropout=0.5)",
    "upscaled",
    'upscaled(residual=true, activation="relu")',
    "residual(inner=linear(bias=true))",
    "lateon",
    "edge",
    "pylate_gelu",
    "paper_best",
]
NOT_EXPRESSIBLE = [
    "glu",
    "paper_glu",
    "residual(inner=ffn)",
    "residual(inner=linear, scale=0.5)",
    "residual(inner=glu)",
    "prenorm(inner=linear())",
    "ffn(activation=gelu, idle=0.5)",
    "structured",
    "moe",
]


def head_of(spec, in_features=12, out_features=8):
    return build_head(spec, in_features, out_features, generator=torch.Generator().manual_seed(3)).eval()


def through(chain, x):
    for module in chain:
        x = module({"token_embeddings": x})["token_embeddings"]
    return x


@pytest.mark.parametrize("spec", EXPRESSIBLE)
@pytest.mark.parametrize("widths", [(12, 8), (12, 12)])
def test_a_chain_of_the_hosts_dense_gives_the_same_tensor_and_comes_back(host, spec, widths):
    head = head_of(spec, *widths)
    chain = host.to_dense_chain(head)
    assert all(type(module).__module__.split(".")[0] in ("pylate", "sentence_transformers") for module in chain)
    x = torch.randn(2, 5, 12)
    assert torch.equal(through(chain, x), head(x))
    again = host.from_dense_chain(chain).eval()
    assert torch.equal(again(x), head(x))
    assert {p.data_ptr() for p in again.parameters()}.isdisjoint(p.data_ptr() for p in head.parameters())


@pytest.mark.parametrize("spec", NOT_EXPRESSIBLE)
def test_a_head_that_no_chain_can_express_is_refused(spec):
    with pytest.raises(ProjheadsError, match="is not a chain of Dense layers"):
        dense_layers(head_of(spec))


def test_every_head_is_expressed_exactly_or_refused():
    for spec in [*list_heads(), *list_presets()]:
        head = head_of(spec)
        try:
            layers = dense_layers(head)
        except ProjheadsError:
            continue
        x = torch.randn(4, 12)
        assert torch.equal(nn.Sequential(*layers).eval()(x), head(x)), spec


def test_the_chain_shares_the_heads_parameters(host):
    head = head_of("ffn(residual=true)")
    chain = host.to_dense_chain(head)
    assert {id(p) for module in chain for p in module.parameters()} == {id(p) for p in head.parameters()}
    assert not head.training, "reading the layers must leave the head's mode as it was"


@pytest.mark.parametrize(
    ("layers", "spec"),
    [
        ([(12, 8, False, nn.Identity(), False)], "linear"),
        ([(12, 8, True, nn.Identity(), True)], "residual(inner=linear(bias=true))"),
        ([(12, 8, False, nn.Tanh(), False)], 'linear(activation="tanh")'),
        ([(12, 8, True, nn.GELU(), True)], 'residual(inner=linear(bias=true, activation="gelu"))'),
        ([(12, 16, False, nn.GELU(), False), (16, 8, False, nn.Identity(), False)],
         'ffn(depth=2, hidden_features=16, activation="gelu")'),
        ([(12, 24, False, nn.Identity(), True), (24, 6, False, nn.Identity(), True),
          (6, 8, False, nn.Identity(), False)],
         "ffn(depth=3, hidden_features=(24, 6), residual=true)"),
        ([(12, 16, True, nn.Tanh(), False), (16, 8, False, nn.Tanh(), True)],
         'ffn(depth=2, hidden_features=16, activation=("tanh", "tanh"), bias=(true, false), residual=(false, true))'),
        ([(12, 6, False, nn.ReLU(), False), (6, 6, False, nn.SiLU(), False), (6, 8, False, nn.Identity(), False)],
         'ffn(depth=3, hidden_features=6, activation=("relu", "silu", "identity"))'),
    ],
)  # fmt: skip
def test_a_chain_gets_the_shortest_spec(host, layers, spec):
    chain = [dense_of(host, *layer) for layer in layers]
    head = host.from_dense_chain(chain)
    assert head.spec == HeadSpec.parse(spec)
    x = torch.randn(3, 12)
    assert torch.equal(head(x), through(chain, x))


RELEASED = {
    "LateOn": [(768, 1536, True), (1536, 768, True), (768, 128, False)],
    "LateOn-Code-edge": [(256, 512, False), (512, 48, False)],
    "GTE-ModernColBERT": [(768, 128, False)],
    "jina-colbert-v2, 96 of 128": [(1024, 96, False)],
    "mxbai-edge-colbert-v0-17m, 48 wide": [(256, 512, True), (512, 48, False)],
    "mxbai-edge-colbert-v0-32m, 64 wide": [(384, 768, True), (768, 64, False)],
}
"""Widths, and which layers have a skip. Of mxbai-edge only the output's width is known here; its layers are assumed."""


@pytest.mark.parametrize("layers", RELEASED.values(), ids=list(RELEASED))
def test_chains_of_the_shapes_that_are_released_become_heads_and_come_back(host, layers):
    chain = [dense_of(host, *widths, False, nn.Identity(), residual) for *widths, residual in layers]
    head = host.from_dense_chain(chain).eval()
    again = host.to_dense_chain(head)
    assert [(m.in_features, m.out_features, m.use_residual) for m in again] == layers
    x = torch.randn(3, layers[0][0], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(through(again, x), through(chain, x))
        assert (nn.functional.normalize(fold(head)(x)) - nn.functional.normalize(head(x))).abs().max() < 1e-6


def dense_of(host, in_features, out_features, bias, activation, residual):
    if "pylate" in host.__name__:
        from pylate.models import Dense

        return Dense(in_features, out_features, bias=bias, activation_function=activation, use_residual=residual)
    from sentence_transformers.base.modules import Dense

    return Dense(
        in_features, out_features, bias, activation, module_input_name="token_embeddings", use_residual=residual
    )


def test_chains_without_a_head_are_refused(host):
    for activation in (nn.ELU(), nn.GELU(approximate="tanh")):
        with pytest.raises(ProjheadsError, match="no head has a Dense layer with the activation"):
            host.from_dense_chain([dense_of(host, 12, 8, False, activation, False)])
    for nothing in ([], [nn.Linear(2, 2)]):
        with pytest.raises(ProjheadsError, match="must consist of one or more Dense modules"):
            from_dense_chain(nothing)
