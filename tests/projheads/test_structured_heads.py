"""The heads of the structured-layer literature against their formulas, written out entry by entry or with loops."""

import copy
import math

import pytest
import torch

from projheads import ProjheadsError, build_head, check_head, fold

VARIANTS = [
    "structured(kind=block_shuffle, blocks=5, bias=true)",
    "structured(kind=block_dense, activation=gelu)",
    "structured(activation=gelu, hidden_features=40, rank=32)",
    "householder(gated=true)",
    "hadamard(depth=3, bias=true)",
    "sparse(hidden_features=30, activation=gelu, bias=true)",
    "polynomial(degree=3, bias=true)",
    "prenorm(norm=rms, inner=linear())",
    "moe(expert=glu, top_k=1)",
    "moe(hidden_features=160)",
    "ffn(activation=tanh, idle=0.7, bias=true)",
    "upscaled(activation=relu, idle=0.3, residual=true)",
]


def built(text, in_features=6, out_features=4):
    head = build_head(text, in_features, out_features).double().eval()
    x = torch.randn(5, in_features, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return head, dict(head.named_parameters()), x


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def block_diagonal(weight, rows, columns):
    """Write the blocks into a zero matrix and cut off what pads it."""
    blocks, height, width = weight.shape
    matrix = weight.new_zeros(blocks * height, blocks * width)
    for block in range(blocks):
        for i in range(height):
            for j in range(width):
                matrix[block * height + i, block * width + j] = weight[block, i, j]
    return matrix[:rows, :columns]


@pytest.mark.parametrize("head", VARIANTS)
def test_variants_pass_the_conformance_suite(head):
    check_head(head)


def test_low_rank_is_a_chain_of_two_factors():
    head, weights, x = built("structured(rank=3, activation=gelu, bias=true)")
    hidden = x @ weights["layers.0.first.weight"].T @ weights["layers.0.second.weight"].T
    hidden = gelu(hidden + weights["layers.0.second.bias"])
    expected = hidden @ weights["layers.1.first.weight"].T @ weights["layers.1.second.weight"].T
    torch.testing.assert_close(head(x), expected + weights["layers.1.second.bias"])


@pytest.mark.parametrize("in_features, out_features, blocks", [(6, 4, 2), (12, 6, 3), (7, 5, 2), (5, 7, 3)])
def test_block_shuffle_sends_entry_j_of_block_i_to_place_i_of_group_j(in_features, out_features, blocks):
    head, weights, x = built(f"structured(kind=block_shuffle, depth=1, blocks={blocks})", in_features, out_features)
    narrow = min(in_features, out_features)
    middle = blocks * math.ceil(narrow / blocks)
    first = block_diagonal(weights["layers.0.first.weight"], middle, in_features)
    second = block_diagonal(weights["layers.0.second.weight"], out_features, middle)
    shuffle = torch.zeros(middle, middle, dtype=torch.float64)
    for i in range(blocks):
        for j in range(middle // blocks):
            shuffle[j * blocks + i, i * (middle // blocks) + j] = 1
    torch.testing.assert_close(head(x), x @ (second @ shuffle @ first).T)
    torch.testing.assert_close(fold(head).weight, second @ shuffle @ first)


def test_block_dense_is_a_block_diagonal_and_a_dense_matrix():
    head, weights, x = built("structured(kind=block_dense, depth=1, blocks=2, rank=4)")
    first = block_diagonal(weights["layers.0.first.weight"], 4, 6)
    torch.testing.assert_close(head(x), x @ first.T @ weights["layers.0.second.weight"].T)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_idle_channels_skip_the_activation(activation):
    head, weights, x = built(f"ffn(activation={activation}, idle=0.25, hidden_features=8)")
    hidden = x @ weights["layers.0.linear.weight"].T
    act = gelu if activation == "gelu" else lambda z: z.clamp(min=0)
    hidden = torch.cat([act(hidden[:, :6]), hidden[:, 6:]], dim=1)
    torch.testing.assert_close(head(x), hidden @ weights["layers.1.linear.weight"].T)
    head, weights, x = built(f"upscaled(activation={activation}, idle=0.5, residual=true)")
    hidden = x @ weights["up.linear.weight"].T
    hidden = torch.cat([act(hidden[:, :6]), hidden[:, 6:]], dim=1) + x @ weights["up.residual.weight"].T
    torch.testing.assert_close(head(x), hidden @ weights["output.weight"].T)


@pytest.mark.parametrize("gated", [False, True])
def test_householder_multiplies_matrices(gated):
    head, weights, x = built(f"householder(reflections=3, gated={gated})")
    for row, token in zip(head(x), x, strict=True):
        if gated:
            keys = (weights["keys.weight"] @ token).view(3, 6)
            betas = weights["betas.weight"] @ token + weights["betas.bias"]
        else:
            keys, betas = weights["key"], weights["beta"]
        y = token
        for key, beta in zip(keys, betas, strict=True):
            k = key / key.dot(key).sqrt()
            y = (torch.eye(6, dtype=torch.float64) - 2 / (1 + torch.exp(-beta)) * k[:, None] @ k[None]) @ y
        torch.testing.assert_close(row, weights["output.weight"] @ y)


def test_householder_with_the_largest_beta_is_a_reflection():
    head, weights, _ = built("householder(reflections=1)")
    with torch.no_grad():
        weights["beta"].fill_(60)
        weights["output.weight"].copy_(torch.eye(6)[:4])
    k = weights["key"][0]
    torch.testing.assert_close(head(k * 3), -3 * k[:4])


def test_hadamard_is_the_product_of_the_entries_and_starts_as_a_linear_layer():
    head, weights, x = built("hadamard(depth=3, bias=true)", 40, 30)
    matrices = [weights[name] for name in ("first.weight", "others.0", "others.1")]
    matrix = torch.zeros(30, 40, dtype=torch.float64)
    for i in range(30):
        for j in range(40):
            matrix[i, j] = math.prod(m[i, j].item() for m in matrices)
    torch.testing.assert_close(head(x), x @ matrix.T + weights["first.bias"])
    assert matrix.abs().max() <= 1 / math.sqrt(40) + 1e-6
    assert float(matrix.square().mean()) == pytest.approx(1 / (3 * 40), rel=0.15)


def test_a_row_of_sparse_sees_distinct_inputs_drawn_from_the_seed():
    head, weights, x = built("sparse(inputs=2, bias=true)")
    for row, token in zip(head(x), x, strict=True):
        for out in range(4):
            columns = head.sparse.positions[out].tolist()
            assert len(set(columns)) == 2
            expected = sum(weights["sparse.weight"][out, n] * token[c] for n, c in enumerate(columns))
            torch.testing.assert_close(row[out], expected + weights["sparse.bias"][out])
    other = build_head("sparse(inputs=2)", 6, 4, generator=torch.Generator().manual_seed(5))
    assert not torch.equal(other.sparse.positions, head.sparse.positions)


def test_sparse_takes_over_a_map_of_its_pattern_only():
    old = build_head("sparse(inputs=2)", 6, 4)
    new = build_head("sparse(inputs=2)", 6, 4, init="preserve", old=old)
    assert torch.equal(new.sparse.matrix(), old.sparse.matrix())
    with pytest.raises(ProjheadsError, match="the map has entries where its rows see no input"):
        build_head("sparse(inputs=2)", 6, 4, init="preserve", old=build_head("linear", 6, 4))


def test_polynomial_of_degree_2_is_a_bilinear_glu_plus_a_linear_layer():
    head, weights, x = built("polynomial(hidden_features=9, bias=true)")
    glu = build_head("glu(activation=identity, hidden_features=9)", 6, 4).double()
    with torch.no_grad():
        glu.gate.weight.copy_(weights["factors.0.weight"])
        glu.up.weight.copy_(weights["factors.1.weight"])
        glu.output.weight.copy_(weights["outputs.0.weight"])
    torch.testing.assert_close(head(x), glu(x) + x @ weights["linear.weight"].T + weights["linear.bias"])


def test_polynomial_of_degree_3_has_products_of_three():
    head, weights, x = built("polynomial(degree=3)")
    first, second, third = (x @ weights[f"factors.{i}.weight"].T for i in range(3))
    expected = x @ weights["linear.weight"].T + (first * second) @ weights["outputs.0.weight"].T
    torch.testing.assert_close(head(x), expected + (first * second * third) @ weights["outputs.1.weight"].T)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_prenorm(norm):
    head, weights, x = built(f"prenorm(inner=linear(), norm={norm})")
    with torch.no_grad():
        weights["norm.weight"].uniform_(0.5, 2)
    centred = x - x.mean(1, keepdim=True) if norm == "layer" else x
    normed = weights["norm.weight"] * centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(head(x), normed @ weights["inner.linear.weight"].T)


@pytest.mark.parametrize("expert, activation", [("ffn", "gelu"), ("glu", "identity")])
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_moe_adds_the_experts_that_the_router_scores_highest(expert, activation, top_k):
    head, weights, x = built(f"moe(expert={expert}, experts=3, top_k={top_k}, activation={activation})")
    for row, token in zip(head(x), x, strict=True):
        scores = weights["router.weight"] @ token
        expected = 0
        for e in scores.argsort(descending=True)[:top_k].tolist():
            up = weights[f"experts.{e}.up.weight"] @ token
            hidden = gelu(up) if expert == "ffn" else (weights[f"experts.{e}.gate.weight"] @ token) * up
            expected = expected + weights[f"experts.{e}.output.weight"] @ hidden
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("old", ["ffn(activation=gelu, hidden_features=10)", "glu", "ffn"])
def test_a_head_that_is_cut_into_experts_is_the_same_map_with_all_of_them_on(old):
    old, _, x = built(old)
    form = "glu" if old.spec.name == "glu" else "ffn"
    hidden = list(old.parameters())[-1].shape[1]
    activation = getattr(old, "activation_name", None) or old.dense_layers()[0].activation_name

    def cut(top_k):
        text = f"moe(expert={form}, experts=3, top_k={top_k}, hidden_features={hidden}, activation={activation})"
        return build_head(text, old.in_features, old.out_features, init="convert", old=old).to(x.dtype).eval()

    torch.testing.assert_close(cut(3)(x), old(x), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(cut(2)(x), old(x))


@pytest.mark.parametrize("old", ["linear", "ffn(depth=3)", "glu(bias=true)", "ffn(residual=true)"])
def test_only_one_hidden_layer_without_bias_and_skip_can_be_cut(old):
    with pytest.raises(ProjheadsError, match="cannot be cut into experts; it must be a glu, or an ffn of two layers"):
        build_head("moe", 6, 4, init="convert", old=build_head(old, 6, 4))
    with pytest.raises(ProjheadsError, match=r'moe\(expert="glu", activation="silu", hidden_features=6\); set'):
        build_head("moe", 6, 4, init="convert", old=build_head("glu", 6, 4))
    with pytest.raises(ProjheadsError, match="linear: Linear takes over the weights of no other form"):
        build_head("linear", 6, 4, init="convert", old=build_head("glu", 6, 4))


def test_the_balancing_term_is_its_weight_for_even_shares_and_more_for_uneven_ones():
    head, weights, _ = built("moe(experts=3, top_k=1, balance=0.5)", 3, 4)
    with torch.no_grad():
        weights["router.weight"].copy_(torch.eye(3) * 1e-6)
    assert head.training_loss(torch.eye(3, dtype=torch.float64)).item() == pytest.approx(0.5)
    with torch.no_grad():
        weights["router.weight"].mul_(1e7)
    first = torch.eye(3, dtype=torch.float64)[[0, 0, 0]]
    term = head.training_loss(first)
    assert term.item() == pytest.approx(0.5 * 3 * math.exp(10) / (math.exp(10) + 2), rel=1e-5)
    term.backward()
    assert weights["router.weight"].grad.any()
    assert build_head("moe(top_k=4)", 6, 4).training_loss(torch.ones(2, 6)) is None
    assert build_head("moe(balance=0)", 6, 4).training_loss(torch.ones(2, 6)) is None


def test_a_self_guided_layer_moves_from_the_dense_matrix_to_the_structured_one():
    head = build_head("structured(kind=block_shuffle, blocks=2, guide=0.5)", 6, 4).double()
    names = {name for name, _ in head.named_parameters()}
    x = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    structured, plain = head(x), copy.deepcopy(head).layers
    head.training_progress(0.0)
    torch.testing.assert_close(head(x), structured)
    with torch.no_grad():
        for layer in head.layers:
            layer.dense.weight.fill_(0.25)
    hidden = torch.full((6, 6), 0.25, dtype=torch.float64)
    dense = x @ hidden.T @ hidden[:4].T
    torch.testing.assert_close(head(x), dense)
    head.training_progress(0.25)
    first = 0.5 * x @ hidden.T + 0.5 * plain[0](x)
    torch.testing.assert_close(head(x), 0.5 * first @ hidden[:4].T + 0.5 * plain[1](first))
    for done in (0.5, 0.9, 1.0):
        head.training_progress(done)
        torch.testing.assert_close(head(x), structured)
    assert {name for name, _ in head.named_parameters()} == names


@pytest.mark.parametrize(
    "text, line",
    [
        ("structured(depth=0)", 'head "structured": depth=0 must be at least 1'),
        ("structured(depth=101)", "depth=101 must be at most 100"),
        ("structured(rank=0)", "rank=0 must be at least 1"),
        ("structured(blocks=7)", "blocks=7 must be from 1 to in_features=6"),
        ("structured(guide=2)", "guide=2.0 must be from 0 to 1"),
        ("structured(kind=banded)", "banded"),
        ("householder(reflections=0)", "reflections=0 must be at least 1"),
        ("householder(reflections=101)", "reflections=101 must be at most 100"),
        ("hadamard(depth=101)", "depth=101 must be at most 100"),
        ("polynomial(degree=101)", "degree=101 must be at most 100"),
        ("hadamard(depth=1)", 'depth=1 must be at least 2; use "linear" for one matrix'),
        ("sparse(inputs=7)", "inputs=7 must be from 1 to in_features=6"),
        ("sparse(hidden_features=0)", "hidden_features=0 must be at least 1"),
        ("sparse(activation=gelu)", "an activation needs hidden_features"),
        ("polynomial(degree=1)", 'degree=1 must be at least 2; use "linear" for degree 1'),
        ("moe(experts=7)", "experts=7 must be from 1 to the hidden width, 6"),
        ("moe(top_k=5)", "top_k=5 must be from 1 to experts=4"),
        ("moe(balance=-1)", "balance=-1.0 must not be negative"),
        ("ffn(activation=gelu, idle=1)", "idle=1.0 must be in [0, 1)"),
        ("ffn(idle=0.5)", "idle=0.5 needs an activation, which these channels skip"),
    ],
)
def test_values_out_of_range_get_one_line(text, line):
    with pytest.raises(ProjheadsError) as error:
        build_head(text, 6, 4)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
