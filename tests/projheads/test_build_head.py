"""Building: where randomness comes from, and what each initialisation promises."""

import math

import pytest
import torch

from projheads import HeadSpec, ProjheadsError, build_head, head_class, list_heads, list_inits, register_init
from projheads.init import INITS, find_init, take_over
from projheads.matched import matched_products
from projheads.registry import _HEADS

HEADS = [*list_heads(), "pylate_gelu", "ffn(activation=gelu, bias=true)", "residual(inner=glu(), learned_scale=true)"]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def tokens(n, width, seed=0):
    """Token states (n, width) as backbones give them: a common direction, and norms that differ."""
    x = torch.randn(n, width, generator=generator(seed)) + torch.randn(width, generator=generator(seed + 1))
    return x * torch.rand(n, 1, generator=generator(seed + 2)).add(0.5)


def mean_norm(head, x):
    return head.eval()(x).norm(dim=-1).mean().item()


def bits(head):
    return {name: tensor.tolist() for name, tensor in head.state_dict().items()}


# The two that start from a given map are in test_preserve.py.
DRAWN = [name for name in list_inits() if not find_init(name).takes_map]

NOT_FOR_EVERY_HEAD = {
    "centred": "needs a bias", "convert": "needs the old head", "critical": "outside of a linear layer"
}  # fmt: skip


@pytest.mark.parametrize("init", DRAWN)
@pytest.mark.parametrize("text", HEADS)
def test_the_generator_decides_every_bit_and_the_global_state_none(text, init):
    sample = tokens(16, 24)
    heads = []
    if init in NOT_FOR_EVERY_HEAD:
        try:
            build_head(text, 24, 16, init=init, sample=sample)
        except ProjheadsError as error:
            refused = str(error)
        else:
            refused = ""
        if refused:
            assert NOT_FOR_EVERY_HEAD[init] in refused
            return
    with torch.random.fork_rng(devices=[]):
        for global_seed, seed in ((0, 5), (1, 5), (0, 6)):
            torch.manual_seed(global_seed)
            before = torch.get_rng_state()
            heads.append(build_head(text, 24, 16, init=init, generator=generator(seed), sample=sample))
            assert torch.equal(before, torch.get_rng_state())
    assert bits(heads[0]) == bits(heads[1])
    assert bits(heads[0]) != bits(heads[2])
    assert heads[0].training


def test_one_generator_gives_one_head_after_another():
    shared = generator(0)
    first, second = (build_head("linear", 8, 4, generator=shared) for _ in range(2))
    assert bits(first) != bits(second)
    assert bits(first) == bits(build_head("linear", 8, 4)), "no generator means a generator with seed 0"


@pytest.mark.parametrize("text", HEADS)
def test_a_head_knows_its_spec_and_widths(text):
    head = build_head(text, 24, 16)
    assert (head.in_features, head.out_features) == (24, 16)
    assert head.spec == HeadSpec.parse(text)
    assert bits(build_head(head.spec, 24, 16)) == bits(head)


def test_heads_are_built_on_the_cpu_whatever_the_default_device():
    with torch.device("meta"):
        head = build_head("residual(learned_scale=true)", 24, 16)
    assert {parameter.device.type for parameter in head.parameters()} == {"cpu"}
    assert bits(head) == bits(build_head("residual(learned_scale=true)", 24, 16))


def test_torch_is_uniform_within_one_over_root_fan_in():
    weight = build_head("linear", 400, 100).linear.weight
    bound = 1 / math.sqrt(400)
    assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("text", HEADS)
def test_xavier_is_glorots_bound_for_every_matrix(text):
    for name, parameter in build_head(text, 64, 48, init="xavier").named_parameters():
        if parameter.ndim == 2:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert parameter.abs().max().item() <= bound
            assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        elif name.endswith("bias"):
            assert not parameter.any()


@pytest.mark.parametrize("text", HEADS)
def test_orthogonal_matrices_have_orthonormal_rows_or_columns(text):
    for parameter in build_head(text, 24, 16, init="orthogonal").parameters():
        if parameter.ndim == 2:
            narrow = parameter if parameter.shape[0] <= parameter.shape[1] else parameter.T
            torch.testing.assert_close(narrow @ narrow.T, torch.eye(len(narrow)), atol=1e-5, rtol=0)


def test_inits_leave_a_learned_scale_where_it_starts():
    sample, old = tokens(20, 24), build_head("linear", 24, 16)
    matches = matched_products([sample[:4], sample[4:9]], [sample[9:15], sample[15:]])
    for init in set(list_inits()) - {"convert"}:
        text = "residual(inner=ffn(bias=true), scale=0.25, learned_scale=true)"
        head = build_head(text, 24, 16, init=init, sample=sample, old=old, matches=matches)
        assert head.scale.item() == 0.25


def test_norm_matched_gives_every_head_the_norm_of_a_linear_one():
    sample = tokens(200, 96)
    linear = [mean_norm(build_head("linear", 96, 128, generator=generator(seed)), sample) for seed in range(200)]
    expected = sum(linear) / len(linear)
    plain, matched = [], []
    for text in HEADS:
        plain.append(mean_norm(build_head(text, 96, 128), sample))
        matched.append(mean_norm(build_head(text, 96, 128, init="norm-matched", sample=sample), sample))
    assert matched == pytest.approx([expected] * len(HEADS), rel=0.02)
    assert max(matched) / min(matched) < 1.0001
    assert max(plain) / min(plain) > 1.5, "without it the heads start apart, or this test shows nothing"


def test_norm_matched_scales_the_output_alone():
    sample = tokens(50, 24)
    plain, matched = (
        build_head("ffn(activation=gelu)", 24, 16, init=init, sample=sample).layers
        for init in ("torch", "norm-matched")
    )
    assert torch.equal(plain[0].linear.weight, matched[0].linear.weight)
    ratio = matched[1].linear.weight / plain[1].linear.weight
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))


def test_norm_matched_reaches_the_norm_through_a_last_activation():
    sample = tokens(50, 24)
    text = "ffn(activation=(gelu, tanh))"
    matched = build_head(text, 24, 16, init="norm-matched", sample=sample)
    linear = build_head("linear", 24, 16, init="norm-matched", sample=sample)
    assert mean_norm(matched, sample) == pytest.approx(mean_norm(linear, sample), rel=1e-4)


@pytest.mark.parametrize(
    "text, out_features, sample, line",
    [
        ("linear", 16, None, r"needs a sample of token states \(n, 24\), got none"),
        ("linear", 16, torch.ones(3, 16), r"got shape \(3, 16\)"),
        ("linear", 16, torch.ones(24), r"got shape \(24,\)"),
        ("linear", 16, torch.ones(0, 24), r"got shape \(0, 24\)"),
        ("linear", 16, torch.zeros(3, 24), "does not reach norm 0"),
        ("residual", 24, torch.ones(3, 24), "does not reach norm"),
    ],
)
def test_norm_matched_says_what_it_can_not_match(text, out_features, sample, line):
    with pytest.raises(ProjheadsError, match=line):
        build_head(text, 24, out_features, init="norm-matched", sample=sample)


def test_an_unknown_init_is_named():
    with pytest.raises(ProjheadsError, match=r'unknown init "ortogonal".*did you mean "orthogonal"\?'):
        build_head("linear", 24, 16, init="ortogonal")


@pytest.fixture
def registry(monkeypatch):
    """A copy of the table of initialisations, so that what a test registers is gone afterwards."""
    monkeypatch.setattr("projheads.init.INITS", dict(INITS))


def test_a_new_initialisation_is_one_function_below_its_name(registry, tmp_path):
    @register_init("sampled-constant", needs_sample=True, takes_map=True)
    def constant(head, given):
        """The constant map onto the sample's mean."""
        take_over(head, given.sample.mean() * torch.ones(head.out_features, head.in_features))

    assert "sampled-constant" in list_inits()
    assert find_init("sampled-constant").doc == "The constant map onto the sample's mean."
    head = build_head("linear", 24, 16, init="sampled-constant", sample=torch.full((3, 24), 0.5))
    assert torch.equal(head.linear.weight, torch.full((16, 24), 0.5))
    with pytest.raises(
        ProjheadsError, match=r"init sampled-constant needs a sample of token states \(n, 24\), got none"
    ):
        build_head("linear", 24, 16, init="sampled-constant")
    with pytest.raises(ProjheadsError, match='init "sampled-constant": the name is taken'):
        register_init("sampled-constant")(constant)


def test_the_configuration_knows_what_a_new_initialisation_asks_of_a_head(registry, tmp_path):
    from experiment.config.load import load_config

    register_init("takes-map", takes_map=True)(lambda head, given: None)
    register_init("takes-nothing")(lambda head, given: None)
    path = tmp_path / "try.yaml"
    path.write_text("heads: {variants: [linear, glu]}\ntrain: {data: pydocs}\neval: {datasets: [pydocs]}\n")
    assert load_config(path, ["heads.init=takes-nothing"]).heads.init == "takes-nothing"
    with pytest.raises(ProjheadsError, match=r"heads\.variants: glu: head glu cannot take over a linear map"):
        load_config(path, ["heads.init=takes-map"])
    with pytest.raises(ProjheadsError, match=r'unknown init "take-map"; known: .*did you mean "takes-map"'):
        load_config(path, ["heads.init=take-map"])


@pytest.mark.parametrize(
    "spec, widths", [("linear", (768, 10**10)), ("ffn(factor=1000000)", (768, 128)), ("glu", (10**6, 10**6))]
)
def test_a_head_beyond_the_memory_of_this_machine_is_refused_before_it_is_allocated(spec, widths):
    with pytest.raises(ProjheadsError, match=r"takes over [\d.]+ GB; this machine has [\d.]+ GB of memory"):
        build_head(spec, *widths)


def test_a_head_whose_constructor_reads_values_is_built(monkeypatch):
    class Reads(head_class("linear")):
        def __init__(self, in_features: int, out_features: int) -> None:
            super().__init__(in_features, out_features)
            self.norm = self.linear.weight.norm().item()

    monkeypatch.setitem(_HEADS, "reads", Reads)
    assert build_head("reads", 6, 4).norm == pytest.approx(build_head("linear", 6, 4).linear.weight.norm().item())


@pytest.mark.parametrize("text", [*list_heads(), "householder(gated=true)"])
def test_a_token_of_zeros_has_a_finite_embedding_in_float16(text):
    assert build_head(text, 16, 8).half().eval()(torch.zeros(1, 16).half()).isfinite().all()
