"""The conformance suite: every head passes it, and it catches each way of being broken."""

import random

import pytest
import torch
from torch import nn

from projheads import Head, HeadSpec, ProjheadsError, check_head, list_heads, list_presets, registry
from projheads.testing import CheckError, list_checks

VARIANTS = [
    "linear(bias=true)",
    "ffn(activation=gelu, bias=true, dropout=0.1)",
    "ffn(depth=4, residual=true, activation=(relu, silu, tanh, tanh))",
    "glu(activation=sigmoid, bias=true, dropout=0.1)",
    "glu(activation=identity)",
    "residual(inner=glu(), scale=0, learned_scale=true)",
    "residual(inner=residual(inner=edge), scale=0.5)",
    "upscaled(residual=true, activation=silu, bias=true)",
]


@pytest.mark.parametrize("head", [*list_heads(), *list_presets(), *VARIANTS])
def test_every_head_passes(head):
    made = check_head(head)
    assert set(list_checks()) - set(made) <= {"fold", "preserve", "compile"}
    assert made == [name for name in list_checks() if name in made]


def test_widths_can_be_chosen():
    assert "shapes" in check_head(HeadSpec("upscaled"), in_features=48, out_features=5)


class Good(Head):
    """A linear head that every broken one below differs from in one thing."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.linear = nn.Linear(in_features, out_features)

    def reset_parameters(self):
        self.linear.reset_parameters()

    def forward(self, x):
        return self.linear(x)

    def nonlinear_part(self):
        return None


class Tied(Good):
    """y = W' relu(W x), with one matrix W."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.again = nn.Linear(out_features, in_features)
        self.again.weight = nn.Parameter(self.linear.weight.T)
        self.more = self.linear

    def reset_parameters(self):
        super().reset_parameters()
        self.again.reset_parameters()

    def forward(self, x):
        return self.more(torch.relu(self.again(self.linear(x))))

    def nonlinear_part(self):
        return "the relu"


def test_tied_weights_pass():
    assert "save" in check_head(Tied)


def test_a_class_that_is_not_registered_passes():
    made = check_head(Good)
    assert set(list_checks()) - set(made) <= {"spec", "inits", "preserve", "compile"}
    assert "fold" in made


class WrongWidths(Good):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.in_features = out_features


class WrongDefault(Good):
    def __init__(self, in_features: int, out_features: int, *, depth: int = 2.5) -> None:
        super().__init__(in_features, out_features)


class WrongShape(Good):
    def forward(self, x):
        return self.linear(x)[..., :-1]


class NeedsBatch(Good):
    def forward(self, x):
        batch, length, _ = x.shape
        return self.linear(x.reshape(batch * length, -1)).reshape(batch, length, -1)


class FixedWidths(Good):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.linear = nn.Linear(24, 16)


class MixesTokens(Good):
    def forward(self, x):
        y = self.linear(x)
        return y + y.sum() if y.numel() else y


class MixesTokensInTraining(Good):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.norm = nn.BatchNorm1d(out_features)

    def reset_parameters(self):
        super().reset_parameters()
        self.norm.reset_parameters()

    def forward(self, x):
        y = self.linear(x)
        return self.norm(y.reshape(-1, self.out_features)).reshape(y.shape)


class KnowsThePosition(Good):
    def forward(self, x):
        y = self.linear(x)
        return y * torch.arange(1.0, y.shape[-2] + 1)[:, None] if y.ndim > 1 else y


class ChangesInput(Good):
    def forward(self, x):
        y = self.linear(x)
        x += 0
        x.mul_(2)
        return y


class StaysInFloat32(Good):
    def forward(self, x):
        return self.linear(x).float()


class LosesPrecision(Good):
    def forward(self, x):
        return self.linear(x) if x.dtype == torch.float32 else self.linear(x) * 0.5


class UnusedParameter(Good):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.unused = nn.Linear(3, 3)

    def reset_parameters(self):
        super().reset_parameters()
        self.unused.reset_parameters()


class BlockedGradient(Good):
    def forward(self, x):
        return self.linear(x.detach())


class ZeroGradient(Good):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.shift = nn.Parameter(torch.zeros(1))

    def reset_parameters(self):
        super().reset_parameters()
        nn.init.zeros_(self.shift)

    def forward(self, x):
        return self.linear(x) + 0 * self.shift


class InfiniteGradient(Good):
    def forward(self, x):
        y = self.linear(x)
        return y + 0 * (y - y).abs().sqrt()


class OtherRandomness(Good):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        with torch.no_grad():
            self.linear.weight += random.random()


class OneSeed(Good):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(0.5)


class RandomInference(Good):
    def forward(self, x):
        return self.linear(x) + torch.rand(self.out_features)


class DrawsInInference(Good):
    def forward(self, x):
        torch.rand(1)
        return self.linear(x)


class SeedsInInference(Good):
    def forward(self, x):
        torch.manual_seed(0)
        return self.linear(x)


class Uninitialised(Good):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.scale = nn.Parameter(torch.empty(out_features))

    def reset_parameters(self):
        super().reset_parameters()
        nn.init.ones_(self.scale)

    def forward(self, x):
        return self.linear(x) * self.scale


class ForgetsInReset(Good):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.scale = nn.Parameter(torch.ones(out_features))

    def forward(self, x):
        return self.linear(x) * self.scale


class NotSaved(Good):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.fixed = torch.randn(out_features)

    def forward(self, x):
        return self.linear(x) + self.fixed.to(x)


class SavesNoTensor(Good):
    def get_extra_state(self):
        raise ValueError("\n a first line\n and a second")

    def set_extra_state(self, state):
        pass


class BreaksTheGraph(Good):
    def forward(self, x):
        print(end="")
        return self.linear(x)


class LiesAboutFolding(Good):
    def forward(self, x):
        return nn.functional.gelu(self.linear(x))


class LiesALittle(Good):
    def forward(self, x):
        y = self.linear(x)
        return y + 1e-4 * y.square()


class PreservesSomething(Good):
    def preserve(self, weight, bias):
        self.linear.weight.copy_(weight)


class StartsDead(Good):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.down = nn.Linear(in_features, 8, bias=False)
        self.up = nn.Linear(8, out_features, bias=False)

    def reset_parameters(self):
        super().reset_parameters()
        self.down.reset_parameters()
        self.up.reset_parameters()

    def forward(self, x):
        return self.linear(x) + self.up(self.down(x))

    def preserve(self, weight, bias):
        self.linear.weight.copy_(weight)
        self.linear.bias.zero_()
        self.down.weight.zero_()
        self.up.weight.zero_()


@pytest.mark.parametrize(
    "head, check, seen",
    [
        (WrongWidths, "attributes", r"\(16, 16\)"),
        (WrongDefault, "attributes", "depth=2.5 must be int"),
        (WrongShape, "shapes", r"become \(15,\)"),
        (NeedsBatch, "shapes", "ValueError"),
        (FixedWidths, "widths", "RuntimeError"),
        (MixesTokens, "tokens apart", "in inference mode, one token changes"),
        (MixesTokensInTraining, "tokens apart", "in training mode, one token changes"),
        (KnowsThePosition, "tokens apart", "a token has a different embedding"),
        (ChangesInput, "input kept", "changes its input"),
        (StaysInFloat32, "half precision", "a torch.bfloat16 head returns torch.float32"),
        (LosesPrecision, "half precision", "off by"),
        (UnusedParameter, "gradients", "parameter unused.weight gets no gradient"),
        (BlockedGradient, "gradients", "the input gets no gradient"),
        (ZeroGradient, "gradients", "parameter shift gets a gradient of 0"),
        (InfiniteGradient, "gradients", "not finite"),
        (OtherRandomness, "determinism", "two heads with the same seed differ"),
        (OneSeed, "determinism", "heads with different seeds are equal"),
        (RandomInference, "determinism", "the same input gives different outputs"),
        (DrawsInInference, "determinism", "inference changes the global random state"),
        (SeedsInInference, "determinism", "inference changes the global random state"),
        (Uninitialised, "initialised", "a new head leaves scale uninitialised"),
        (ForgetsInReset, "initialised", "reset_parameters does not set scale"),
        (NotSaved, "save", "some state is not saved"),
        (SavesNoTensor, "initialised", "a first line and a second"),
        (BreaksTheGraph, "compile", "Unsupported"),
        (LiesAboutFolding, "fold", "its folded embeddings differ by"),
        (LiesALittle, "fold", "its folded embeddings differ by"),
        (PreservesSomething, "preserve", "linear map, its embeddings differ by"),
        (StartsDead, "preserve", "down.weight, up.weight get no gradient within two steps"),
    ],
)
def test_broken_heads_are_caught(head, check, seen):
    with pytest.raises(CheckError, match=f"^head class {head.__name__} fails the check {check}: .*{seen}") as error:
        check_head(head)
    assert "\n" not in str(error.value)


def register(monkeypatch, cls):
    list_heads()
    monkeypatch.setattr(registry, "_HEADS", dict(registry._HEADS))
    registry.register_head("mine")(cls)


def test_a_spec_that_does_not_build_the_same_head_again_is_caught(monkeypatch):
    class Counts(Good):
        built = 0

        def __init__(self, in_features: int, out_features: int) -> None:
            super().__init__(in_features, out_features)
            Counts.built += 1
            with torch.no_grad():
                self.linear.weight += Counts.built

    register(monkeypatch, Counts)
    with pytest.raises(CheckError, match=r"^head mine fails the check spec: built from its text form, it has"):
        check_head("mine")


def test_an_init_that_explodes_is_caught(monkeypatch):
    class Explodes(Good):
        def forward(self, x):
            return self.linear(x) / self.linear.bias.abs().max().clamp(min=1e-30).square()

        def nonlinear_part(self):
            return "the division"

    register(monkeypatch, Explodes)
    with pytest.raises(CheckError, match="fails the check inits: init critical gives outputs that are not finite"):
        check_head("mine")


@pytest.mark.parametrize("head, line", [("lineer", 'did you mean "linear"'), ("ffn(depth=0)", "must be at least 2")])
def test_what_can_not_be_built_is_no_failed_check(head, line):
    with pytest.raises(ProjheadsError, match=line) as error:
        check_head(head)
    assert not isinstance(error.value, CheckError)


def test_checks_are_described():
    assert all(text.endswith(".") and "\n" not in text for text in list_checks().values())


def test_the_process_is_left_as_it_was():
    before = torch.get_rng_state()
    with pytest.raises(CheckError):
        check_head(SeedsInInference)
    check_head(Good)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()
