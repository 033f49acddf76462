"""The default of ``heads.init``: ``pca`` if every variant can start from it, otherwise ``torch`` for all of them."""

import pytest

from experiment.config.load import dump_config, load_config, read_resolved
from projheads import registry
from projheads.errors import ProjheadsError


@pytest.fixture
def load(tmp_path):
    def load(*overrides):
        path = tmp_path / "try.yaml"
        path.write_text("heads: {variants: [linear, ffn]}\ntrain: {data: pydocs}\neval: {datasets: [pydocs]}\n")
        return load_config(path, overrides)

    return load


@pytest.mark.parametrize("given", [[], ["heads.init=auto"]])
@pytest.mark.parametrize(
    "variants, init, reason",
    [
        ("linear, ffn(activation=gelu), 'glu(bias=true)', residual(inner=glu())", "pca", None),
        ("linear, glu, sparse", "torch", "head glu cannot take over a linear map: its gate is closed at 0"),
        ("linear, ffn(hidden_features=64)", "torch", "layer 1 is 64 wide; carrying the map needs 128"),
        ("linear, moe", "torch", "layer 1 is 192 wide; carrying the map in pairs of gelu units needs 256"),
        ("linear, 'ffn(activation={gelu,tanh})'", "torch", "the activation tanh of layer 1"),
    ],
)
def test_all_variants_start_from_pca_or_none_does_and_the_first_that_cannot_is_named(
    load, tmp_path, given, variants, init, reason
):
    config = load(f"heads.variants=[{variants}]", *given)
    assert config.heads.init == init
    told = config.heads.why_torch
    assert told is None if reason is None else reason in told
    assert told is None or (told.startswith("heads.init: torch for all variants; ") and len(told.splitlines()) == 1)
    (tmp_path / "experiment.yaml").write_text(dump_config(config))
    stored = read_resolved(tmp_path)
    assert stored == config
    assert (stored.heads.init, stored.heads.why_torch) == (init, None)


def test_narrower_embeddings_need_narrower_hidden_layers(load):
    assert load("heads.variants=[linear, ffn(hidden_features=64)]", "heads.out_features=64").heads.init == "pca"


def test_an_initialisation_that_is_given_stays(load):
    for init in ("torch", "shared", "centred-pca"):
        heads = load(f"heads.init={init}", "heads.variants=['linear(bias=true)']", "heads.baseline='linear(bias=true)'")
        assert (heads.heads.init, heads.heads.why_torch) == (init, None)
    with pytest.raises(ProjheadsError, match=r"heads\.variants: glu: head glu cannot take over a linear map"):
        load("heads.init=pca", "heads.variants=[linear, glu]")
    with pytest.raises(ProjheadsError, match=r'unknown init "autto"; known: auto, .*did you mean "auto"'):
        load("heads.init=autto")


def test_every_point_of_the_axes_starts_in_the_same_way(load):
    points = load("axes={heads.out_features: [64, 32]}", "heads.variants=[linear, ffn(hidden_features=64)]").points()
    assert [derived.heads.init for _, derived in points] == ["torch", "torch"]
    points = load("axes={heads.init: [torch, auto]}").points()
    assert [derived.heads.init for _, derived in points] == ["torch", "pca"]


HEAD = """\
from torch import nn

from projheads import Head, register_head


@register_head("own")
class Own(Head):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.linear = nn.Linear(in_features, out_features, bias=False)

    def forward(self, x):
        return self.linear(x)
"""
PRESERVES = "\n    def preserve(self, weight, bias):\n        "


@pytest.mark.parametrize(
    "preserve, reason",
    [
        ("", "Own does not implement preserve"),
        (f"{PRESERVES}self.linear.weight.copy_(weight)\n", None),
        (f"{PRESERVES}self.linear.weight.copy_(weight.T)\n", "RuntimeError: The size of tensor a"),
    ],
)
def test_a_head_of_your_own_starts_from_pca_if_it_takes_over_a_map(load, tmp_path, monkeypatch, preserve, reason):
    monkeypatch.setattr(registry, "_HEADS", dict(registry._HEADS))
    file = tmp_path / "own.py"
    file.write_text(HEAD + preserve)
    heads = load(f"heads.files=[{file}]", "heads.variants=[linear, own]").heads
    assert heads.init == ("pca" if reason is None else "torch")
    assert reason is None or reason in heads.why_torch
