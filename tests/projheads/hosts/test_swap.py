"""swap_head on the models that people have, each checked by its own host's encode or forward."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from projheads import Head, HeadSpec, ProjheadsError, build_head, fold, list_heads, list_presets, swap_head
from projheads.export import swap_model
from projheads.hosts.base import EncodingSettings

TEXTS = ["What is the capital of France?", "a cat; a dog, a bird!", "", "the cat sat on the mat " * 12]
SETTINGS = EncodingSettings(query_length=12, document_length=24, query_prefix="[ask] ", skiplist=("cat", "."))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def make(host, backbone, spec="linear", out_features=8):
    return host.create(str(backbone), build_head(spec, 32, out_features, generator=generator(1)), SETTINGS)


def both_sides(model):
    return [*model.encode(TEXTS, is_query=True), *model.encode(TEXTS, is_query=False)]


def assert_near(first, second, atol=1e-5):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


@pytest.mark.parametrize("spec", [*list_heads(), *list_presets()])
def test_every_head_goes_on_from_the_models_embeddings(host, backbone, tmp_path, spec):
    model = make(host, backbone)
    before, transformer = both_sides(model), model.native[0]
    kinds = [type(module) for module in model.native]
    refused = None
    try:
        head = swap_head(model.native, spec)
    except ProjheadsError as error:
        refused = str(error)
    if refused:
        assert f"head {spec} cannot take over a linear map: " in refused
        assert_near(before, both_sides(model), atol=0)
        return
    assert head.spec == HeadSpec.parse(spec)
    assert [type(module) for module in model.native] == kinds
    assert model.native[0] is transformer
    assert not head.training
    swapped = type(model)(model.native)
    assert swapped.head is head
    assert_near(before, both_sides(swapped))
    swapped.save(tmp_path / "model")
    plain = host.open_plain(tmp_path / "model")
    assert_near(both_sides(swapped), both_sides(plain), atol=0)


def test_a_chain_of_the_hosts_own_dense_is_one_projection(host, backbone):
    model = make(host, backbone, "lateon")
    before = both_sides(model)
    first, projection, *rest = model.native.children()
    chain = host.to_dense_chain(projection.head)
    model.native._modules.clear()
    for number, module in enumerate([first, *chain, *rest]):
        model.native.add_module(str(number), module)
    assert len(chain) == 3
    assert_near(before, both_sides(type(model)(model.native)), atol=1e-6)
    head = swap_head(model.native, "upscaled(activation=gelu)")
    assert list(model.native._modules) == [str(number) for number in range(2 + len(rest))]
    assert list(model.native)[2:] == rest
    assert isinstance(head, Head)
    assert_near(before, both_sides(type(model)(model.native)))


def test_training_mode_dtype_and_settings_are_kept(host, backbone):
    model = make(host, backbone)
    tokens = model.tokenize(TEXTS, is_query=True)
    model.native.train().to(torch.float64)
    head = swap_head(model.native, "ffn(activation=gelu)", generator=generator(5))
    assert head.training
    assert all(module.training for module in model.native.modules())
    assert {parameter.dtype for parameter in model.native.parameters()} == {torch.float64}
    again = type(model)(model.native).tokenize(TEXTS, is_query=True)
    assert all(torch.equal(tokens[name], again[name]) for name in tokens)


def test_a_head_may_start_anew_or_from_a_sample_or_as_it_is(host, backbone):
    model = make(host, backbone)
    fresh = swap_head(model.native, "ffn", init="xavier", generator=generator(3))
    expected = build_head("ffn", 32, 8, init="xavier", generator=generator(3))
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), expected.parameters(), strict=True))
    sample = torch.randn(100, 32, generator=generator(4))
    pca = swap_head(model.native, HeadSpec("linear"), init="pca", sample=sample)
    torch.testing.assert_close(pca.linear.weight @ pca.linear.weight.T, torch.eye(8), atol=1e-5, rtol=0)
    built = build_head("glu", 32, 4, generator=generator(6))
    weights = [parameter.clone() for parameter in built.parameters()]
    assert swap_head(model.native, built) is built
    assert all(torch.equal(a, b) for a, b in zip(weights, built.parameters(), strict=True))
    assert type(model)(model.native).encode(TEXTS, is_query=False)[0].shape[1] == 4
    again = build_head("linear", 32, 8)
    model = make(host, backbone)
    before = both_sides(model)
    swap_head(model.native, again, init="preserve")
    assert_near(before, both_sides(type(model)(model.native)))


@pytest.mark.parametrize("spec", ["linear(bias=true)", "ffn(activation=gelu)"])
def test_a_wider_head_begins_with_the_old_outputs(host, backbone, tmp_path, spec):
    model = make(host, backbone, out_features=8)
    before = both_sides(model)
    model.save(tmp_path / "model")
    made = swap_model(str(tmp_path / "model"), spec, tmp_path / "wide", out_features=16)
    assert made.out_features == 16
    assert made.difference < 1e-5
    wide = host.load(str(tmp_path / "wide"))
    after = both_sides(wide)
    assert all(rows.shape[1] == 16 for rows in after)
    first = [rows[:, :8] / np.linalg.norm(rows[:, :8], axis=1, keepdims=True) for rows in after]
    assert_near(before, first)
    shares = np.concatenate([np.square(rows[:, 8:]).sum(axis=1) for rows in after])
    assert shares.min() > 0
    assert shares.max() < 0.2  # the model ranks nearly as before
    features = wide.native(dict(wide.tokenize(TEXTS, is_query=False)))
    (features["token_embeddings"][..., 8:] ** 2).sum().backward()
    assert all(parameter.grad.any() for parameter in wide.head.parameters())


def test_a_narrower_head_cannot_keep_the_old_outputs(host, backbone):
    with pytest.raises(ProjheadsError, match=r"maps 32 -> 4; it cannot take over a map 32 -> 8"):
        swap_head(make(host, backbone).native, "linear", out_features=4)


def test_gradients_reach_the_new_head_through_the_host(host, backbone):
    model = make(host, backbone)
    head = swap_head(model.native, "residual(inner=glu())")
    features = model.native(dict(model.tokenize(TEXTS, is_query=False)))
    features["token_embeddings"].sum().backward()
    assert head.skip.weight.grad.any()
    assert head.inner.output.weight.grad.any()


def test_an_old_head_that_is_not_linear_is_said(host, backbone):
    model = make(host, backbone, "ffn(activation=gelu)")
    with pytest.raises(ProjheadsError, match="does not fold into one matrix because of the activation gelu of layer 1"):
        swap_head(model.native, "linear")
    first, *rest = host.to_dense_chain(build_head("ffn(activation=relu)", 32, 8))
    model.native[1] = first
    model.native.insert(2, *rest)
    with pytest.raises(ProjheadsError, match="because of the activation ReLU"):
        swap_head(model.native, "linear")
    assert swap_head(model.native, "linear", init="torch").out_features == 8


def test_widths_that_do_not_fit_are_refused(host, backbone):
    model = make(host, backbone)
    with pytest.raises(ProjheadsError, match="in_features=16, the model's token states are 32 wide"):
        swap_head(model.native, build_head("linear", 16, 8))


def test_a_model_without_projection_gets_one_line(host, backbone):
    model = make(host, backbone)
    looked = "looked for the Dense modules .* `linear` of Stanford's HF_ColBERT, `custom_text_proj` of colpali-engine"
    for other in (model, nn.Linear(3, 3), model.native[0], SimpleNamespace()):
        with pytest.raises(ProjheadsError, match=f"^{type(other).__name__} has no known projection; {looked}") as error:
            swap_head(other, "linear")
        assert "\n" not in str(error.value)


def test_stanfords_colbert(backbone):
    """Its class has no ``all_tied_weights_keys``, which the transformers 5 that pylate 1.6.0 pins asks for."""
    pytest.importorskip("colbert")
    from colbert.infra import ColBERTConfig
    from colbert.modeling.hf_colbert import class_factory
    from transformers import AutoConfig, AutoTokenizer

    def construct():
        cls = class_factory(str(backbone))
        cls.all_tied_weights_keys = {}
        return cls(AutoConfig.from_pretrained(backbone), ColBERTConfig(dim=8)).eval()

    model = construct()
    tokens = AutoTokenizer.from_pretrained(backbone)(TEXTS, padding=True, return_tensors="pt")

    def embeddings(model):
        """What ColBERT.doc of colbert-ai computes before it masks."""
        with torch.no_grad():
            states = model.LM(tokens["input_ids"], attention_mask=tokens["attention_mask"])[0]
            return F.normalize(model.linear(states), p=2, dim=2)

    before = embeddings(model)
    wrapper = nn.Module()  # as BaseColBERT holds it, with properties in front
    wrapper.model = model
    head = swap_head(wrapper, "ffn(activation=gelu)")
    assert model.linear is head
    assert not head.training
    torch.testing.assert_close(embeddings(model), before, atol=1e-5, rtol=0)
    with pytest.raises(ProjheadsError, match="has out_features=4, the model's width is 8"):
        swap_head(model, build_head("linear", 32, 4))

    deeper = swap_head(model, "lateon", init="torch", generator=generator(2))
    trained = embeddings(model)
    model.linear = fold(deeper)
    stock = construct()
    stock.load_state_dict(model.state_dict())
    torch.testing.assert_close(embeddings(stock), trained, atol=1e-5, rtol=0)


class ColStandIn(nn.Module):
    """Of the form of colpali-engine's ColQwen2: the package fits into no environment with pylate 1.6.0."""

    def __init__(self):
        super().__init__()
        self.language_model = nn.Embedding(50, 32)
        self.dim = 8
        self.custom_text_proj = nn.Linear(32, self.dim)

    def forward(self, input_ids, attention_mask):
        projected = self.custom_text_proj(self.language_model(input_ids))
        projected = projected / projected.norm(dim=-1, keepdim=True)
        return projected * attention_mask.unsqueeze(-1)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_of_the_form_of_colpali_engines(wrapped):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ColStandIn()
    tokens = torch.arange(20).reshape(2, 10), torch.ones(2, 10, dtype=torch.long)
    before = model(*tokens)
    with pytest.raises(ProjheadsError, match="the map has a bias, but the last layer has none"):
        swap_head(model, "lateon")
    head = swap_head(nn.Sequential(model) if wrapped else model, "upscaled(activation=gelu, bias=true)")
    assert model.custom_text_proj is head
    torch.testing.assert_close(model(*tokens), before, atol=1e-5, rtol=0)
    assert head.training


def test_no_host_is_imported_to_find_a_projection():
    code = (
        "import sys, torch; from projheads import swap_head\n"
        "class HF_ColBERT(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__(); self.linear = torch.nn.Linear(8, 4, bias=False)\n"
        "model = HF_ColBERT(); swap_head(model, 'ffn')\n"
        "assert type(model.linear).__name__ == 'FFN'\n"
        "sys.exit(any(name in sys.modules for name in ('pylate', 'sentence_transformers', 'transformers', 'colbert')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
