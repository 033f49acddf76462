"""The starts critical and centred."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import torch

from experiment.encoding.tokens import encode_tokens
from projheads import ProjheadsError, build_head, fold
from projheads.blocks import make_activation
from projheads.gains import activation_gain, linear_gain
from projheads.hosts import available_hosts, load_host
from projheads.hosts.base import EncodingSettings
from projheads.init import find_init
from projheads.matched import matched_products

WIDTH = 256


def sample(scale=1.0, count=500, width=WIDTH, seed=4):
    return scale * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def like_token_states(seed):
    """Half of the second moment is in one direction, lengths vary, and a few channels are much larger."""
    generator = torch.Generator().manual_seed(seed)
    channels = torch.linspace(0.5, 1.5, WIDTH)
    channels[:3] = torch.tensor([6.0, -4.0, 3.0])
    lengths = torch.exp(0.2 * torch.randn(5000, 1, generator=generator))
    return 0.3 * lengths * channels * (1 + torch.randn(5000, WIDTH, generator=generator))


def outputs_of_layers(head, states):
    """What follows each activation, and the output."""
    seen = []
    for layer in list(head.layers)[1:]:
        layer.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    seen.append(head.eval()(states))
    return seen


def test_gains_that_have_a_closed_form():
    y = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    for scale in (0.1, 1.0, 5.0):
        for name, gain in (("identity", 1.0), ("relu", math.sqrt(2))):
            found = activation_gain(make_activation(name), scale * y, scale**2)
            assert found == pytest.approx(gain, rel=3e-3)
        assert linear_gain(scale * y, 1.0) == pytest.approx(1 / scale, rel=3e-3)
    # Large arguments make gelu and silu relu, and small ones half of the identity.
    for name in ("gelu", "silu"):
        assert activation_gain(make_activation(name), y, 1e8) == pytest.approx(1e4 * math.sqrt(2), rel=3e-3)
        assert activation_gain(make_activation(name), y, 1e-8) == pytest.approx(2e-4, rel=3e-3)
    assert activation_gain(make_activation("tanh"), y, 1e-8) == pytest.approx(1e-4, rel=3e-3)
    assert activation_gain(make_activation("gelu"), torch.zeros(5), 1.0) == linear_gain(torch.zeros(5), 1.0) == 1.0


@pytest.mark.parametrize("act", ["relu", "gelu", "silu", "tanh"])
def test_gains_by_quadrature(act):
    y = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    gain = activation_gain(make_activation(act), y, 0.3)
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    functions = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "silu": lambda x: x / (1 + np.exp(-x))}
    functions["gelu"] = lambda x: x * scipy.special.ndtr(x)
    assert (weights * functions[act](gain * nodes) ** 2).sum() / weights.sum() == pytest.approx(0.3, rel=0.01)


@pytest.mark.parametrize("kind", ["normal", "like token states"])
@pytest.mark.parametrize(
    "text",
    [
        "ffn(depth=4, activation={act})",
        "ffn(depth=3, activation={act}, idle=0.3)",
        "ffn(depth=3, activation={act}, hidden_features=(300, 512), residual=true)",
        "structured(depth=3, activation={act}, rank=128, bias=true)",
        "structured(depth=3, activation={act}, kind=block_shuffle, bias=true)",
    ],
)
@pytest.mark.parametrize("act", ["relu", "gelu", "silu", "tanh"])
def test_the_mean_square_survives_every_activation_to_2_percent(text, act, kind):
    """On other states than those that the gains were measured on, and for every draw."""
    states, others = (
        (sample(0.3, 1500), sample(0.3, 1500, seed=5)) if kind == "normal" else map(like_token_states, (0, 1))
    )
    if act == "tanh":
        states, others = states / 2, others / 2
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        head = build_head(text.format(act=act), WIDTH, WIDTH, init="critical", sample=states, generator=generator)
        for found in outputs_of_layers(head, others):
            assert found.square().mean().item() == pytest.approx(others.square().mean().item(), rel=0.02)


@pytest.mark.parametrize("text", ["ffn(depth=4, activation=gelu)", "structured(depth=3, activation=silu)", "glu"])
def test_the_mean_square_survives_on_the_token_states_of_a_backbone(text, backbone):
    host = available_hosts()[0]
    model = load_host(host).create(str(backbone), build_head("linear", 32, 8), EncodingSettings())
    words = ["the", "cat", "sat", "on", "a", "red", "mat", "in", "paris", "and", "france", "is", "not", "blue"]
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(words, 30)) for _ in range(120)]
    encoded = encode_tokens(model, texts, is_query=False, project=False, dtype="float32").vectors
    states, others = torch.tensor(encoded).chunk(2)
    head = build_head(text, 32, 32, init="critical", sample=states, generator=torch.Generator().manual_seed(0))
    seen = outputs_of_layers(head, others) if hasattr(head, "layers") else [head.eval()(others)]
    for found in seen:
        assert found.square().mean().item() == pytest.approx(others.square().mean().item(), rel=0.02)


@pytest.mark.parametrize(
    "text",
    [
        "glu(activation=sigmoid)",
        "glu",
        "glu(bias=true)",
        "polynomial(degree=3)",
        "linear(activation=gelu)",
        "residual(inner=glu, scale=0.001)",
    ],
)
def test_products_keep_it_too(text):
    states, others = like_token_states(0), like_token_states(1)
    head = build_head(text, WIDTH, WIDTH, init="critical", sample=states).eval()
    assert head(others).square().mean().item() == pytest.approx(others.square().mean().item(), rel=0.05)


def test_experts_that_get_no_token_and_inner_heads_are_no_obstacle():
    states = sample(0.6)
    head = build_head("moe(experts=200, top_k=1, hidden_features=400)", WIDTH, 8, init="critical", sample=states[:20])
    assert all(parameter.isfinite().all() for parameter in head.parameters())
    assert head.training
    experts = build_head("moe(experts=2, top_k=2)", WIDTH, WIDTH, init="critical", sample=states).eval()
    assert experts(states).square().mean().item() == pytest.approx(0.36, rel=0.1)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_gains_after_a_norm_are_those_for_what_it_returns(norm):
    head = build_head(f"prenorm(norm={norm})", WIDTH, WIDTH, init="critical", sample=like_token_states(0)).eval()
    assert head(like_token_states(1)).square().mean().item() == pytest.approx(1, rel=0.02)


def test_what_critical_can_not_do_is_one_line():
    with pytest.raises(ProjheadsError, match="no gain gives outputs of Tanh the mean square "):
        build_head("ffn(activation=tanh)", WIDTH, 8, init="critical", sample=sample(2.0))
    with pytest.raises(ProjheadsError, match=r"has the matrix others.0 outside of a linear layer"):
        build_head("hadamard", WIDTH, 8, init="critical", sample=sample())


SHIFTED = sample() + torch.linspace(-3, 5, WIDTH)


@pytest.mark.parametrize("init", ["centred", "centred-pca", "centred-orthogonal", "centred-critical"])
@pytest.mark.parametrize(
    "text", ["linear(bias=true)", "ffn(activation=gelu, bias=true)", "residual(inner=linear(bias=true), scale=0.25)"]
)
def test_centred_outputs_have_mean_0_and_differ_from_the_base_by_that_alone(text, init):
    base = init.removeprefix("centred").removeprefix("-") or "torch"
    head = build_head(text, WIDTH, 16, init=init, sample=SHIFTED).eval()
    plain = build_head(text, WIDTH, 16, init=base, sample=SHIFTED).eval()
    assert plain(SHIFTED).mean(0).abs().max() > 0.05
    torch.testing.assert_close(head(SHIFTED), plain(SHIFTED) - plain(SHIFTED).mean(0), rtol=1e-4, atol=1e-4)


def test_centred_takes_w_mu_off_a_linear_head():
    head = build_head("linear(bias=true)", WIDTH, 16, init="centred-pca", sample=SHIFTED)
    torch.testing.assert_close(head.linear.bias, -head.linear.weight @ SHIFTED.mean(0), rtol=1e-4, atol=1e-3)
    pca = build_head("linear", WIDTH, 16, init="pca", sample=SHIFTED)
    torch.testing.assert_close(head.linear.weight, pca.linear.weight)


def test_centred_starts_are_found_by_name():
    shared = find_init("centred-shared")
    assert (shared.fallback, shared.takes_map, shared.needs_sample) == ("centred-torch", True, True)
    old = build_head("ffn(bias=true)", WIDTH, 16)
    new = build_head("linear(bias=true)", WIDTH, 16, init="centred-preserve", old=old, sample=SHIFTED)
    torch.testing.assert_close(new.linear.weight, fold(old).weight)
    with pytest.raises(ProjheadsError, match="centred-pka"):
        find_init("centred-pka")
    with pytest.raises(ProjheadsError, match="needs a bias, which the output of head linear lacks; set bias=true"):
        build_head("linear", WIDTH, 16, init="centred", sample=SHIFTED)
    with pytest.raises(ProjheadsError, match="needs a bias that is added last"):
        build_head("linear(bias=true, activation=relu)", WIDTH, 16, init="centred", sample=SHIFTED)


def texts(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3 + number % 4, 12, generator=generator) + 1 for number in range(count)]


def test_matched_products_are_means_over_query_tokens_of_their_winners():
    queries, documents = texts(40, 0), texts(40, 1)
    found = matched_products(queries, documents)
    relevant, others, tokens = torch.zeros(12, 12), torch.zeros(12, 12), 0
    for i, query in enumerate(queries):
        batch = range(0, 32) if i < 32 else range(32, 40)
        for token in query:
            token = token / token.norm()
            tokens += 1
            for j in batch:
                best = max((state / state.norm() for state in documents[j]), key=lambda state: float(state @ token))
                if i == j:
                    relevant += torch.outer(token, best)
                else:
                    others += torch.outer(token, best) / (len(batch) - 1)
    torch.testing.assert_close(found.relevant.float(), relevant / tokens, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.others.float(), others / tokens, rtol=1e-4, atol=1e-5)
    states = [state / state.norm() for text in queries + documents for state in text]
    torch.testing.assert_close(found.spread.float(), sum(torch.outer(s, s) for s in states) / len(states))
    with pytest.raises(ProjheadsError, match="need at least 2 pairs, got 1 and 1 texts"):
        matched_products(queries[:1], documents[:1])


def test_svd_starts_every_head_that_takes_over_a_map_from_the_pairs():
    matches = matched_products(texts(40, 0), texts(40, 1))
    maps = [
        build_head(text, 12, 4, init="svd", matches=matches, generator=torch.Generator().manual_seed(seed))
        for seed, text in enumerate(("linear", "hadamard", "ffn(activation=gelu)"))
    ]
    x = torch.randn(5, 12)
    for head in maps[1:]:
        torch.testing.assert_close(head.eval()(x), maps[0](x), rtol=1e-4, atol=1e-5)
    weight = maps[0].linear.weight.double()
    torch.testing.assert_close(weight @ weight.T, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-6)
    # Independently: the directions are generalised eigenvectors of the products and the ridged second moment.
    spread = matches.spread.numpy() + 1e-3 * np.linalg.eigvalsh(matches.spread.numpy())[-1] * np.eye(12)
    _, vectors = scipy.linalg.eigh((matches.relevant + matches.relevant.T).numpy(), spread)
    basis = torch.from_numpy(np.linalg.qr(vectors[:, -4:])[0])
    torch.testing.assert_close(weight @ basis @ basis.T, weight.detach(), rtol=0, atol=1e-5)
    plain = build_head("linear", 12, 4, init="svd-plain", matches=matches).linear.weight.double()
    product = matches.relevant - 0.8 * matches.others
    top = torch.linalg.eigvalsh((product + product.T) / 2)[-4:].sum()
    torch.testing.assert_close((plain @ product @ plain.T).trace(), top, rtol=1e-5, atol=1e-7)
    with pytest.raises(ProjheadsError, match="init svd has 12 directions, one for each of the in_features"):
        build_head("linear", 12, 13, init="svd", matches=matches)
    with pytest.raises(ProjheadsError, match="init svd needs products of matched token states of width 12"):
        build_head("linear", 12, 4, init="svd")
