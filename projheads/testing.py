"""The conformance suite that every head must pass, including third-party heads.

Call ``check_head("my_head")`` in your own tests.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor, nn

from projheads.build import build_head
from projheads.errors import ProjheadsError
from projheads.folding import fold, folds
from projheads.head import Head
from projheads.hosts.head_files import to_save
from projheads.init import isolated_random_state, list_inits, take_over
from projheads.registry import check_options, check_spec
from projheads.spec import HeadSpec

__all__ = ["CheckError", "check_head", "list_checks"]

_LONGEST_REASON = 300
_HALF_TOLERANCE = {torch.bfloat16: 0.1, torch.float16: 0.02}


class CheckError(ProjheadsError):
    """A head failed a check; the message names the head, the check and the finding."""


class _SkippedError(Exception):
    """A check that does not apply."""


@dataclass(frozen=True)
class _Subject:
    """The head under test: how to build it, and with which widths."""

    label: str
    spec: HeadSpec | None
    build: Callable[[int, int, int], Head]
    in_features: int
    out_features: int

    def head(self, seed: int = 0) -> Head:
        """Build the head from a seed."""
        return self.build(self.in_features, self.out_features, seed)

    def trained(self) -> Head:
        """Build the head and perturb every parameter, so that no initial zero hides a part."""
        head = self.head()
        with torch.no_grad():
            for seed, parameter in enumerate(head.parameters()):
                parameter.add_(_random(*parameter.shape, seed=seed), alpha=0.1)
        return head

    def tokens(self, *leading: int) -> Tensor:
        """Return random token states (*leading, in_features)."""
        return _random(*leading, self.in_features, seed=7)


def check_head(head: str | HeadSpec | type[Head], *, in_features: int = 24, out_features: int = 16) -> list[str]:
    """Run the conformance suite on a head.

    Args:
        head: A registered name, a preset, a spec or its text form; or an unregistered class, which is built with its
            defaults and skips the checks that need a spec.
        in_features: Width of the test token states.
        out_features: Width of the test token embeddings.

    Returns:
        The names of the checks that were run, in order.

    Raises:
        CheckError: At the first check that fails.
        ProjheadsError: If the head cannot be built.
    """
    subject = _make_subject(head, in_features, out_features)
    made = []
    for name, check in _CHECKS.items():
        try:
            with isolated_random_state(torch.Generator().manual_seed(0)):
                check(subject)
        except _SkippedError:
            continue
        except CheckError as error:
            raise CheckError(f"{subject.label} fails the check {name}: {error}") from None
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REASON]
            raise CheckError(f"{subject.label} fails the check {name}: {reason}") from error
        made.append(name)
    return made


def list_checks() -> dict[str, str]:
    """Return the description of each check by name, in order."""
    return {name: str(check.__doc__) for name, check in _CHECKS.items()}


def _make_subject(head: str | HeadSpec | type[Head], in_features: int, out_features: int) -> _Subject:
    if isinstance(head, type):
        cls = head

        def construct(in_features: int, out_features: int, seed: int) -> Head:
            with isolated_random_state(torch.Generator().manual_seed(seed)):
                return cls(in_features, out_features)

        return _Subject(f"head class {cls.__name__}", None, construct, in_features, out_features)
    spec = check_spec(head)

    def build(in_features: int, out_features: int, seed: int) -> Head:
        return build_head(spec, in_features, out_features, generator=torch.Generator().manual_seed(seed))

    build(in_features, out_features, 0)
    return _Subject(f"head {spec}", spec, build, in_features, out_features)


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _require(condition: bool, seen: str) -> None:
    if not condition:
        raise CheckError(seen)


def _check_attributes(subject: _Subject) -> None:
    """The head has its widths as attributes, and its defaults have their declared types."""
    head = subject.head()
    widths = (head.in_features, head.out_features)
    _require(widths == (subject.in_features, subject.out_features), f"in_features, out_features are {widths}")
    _require(head.training, "a new head is not in training mode")
    defaults = getattr(type(head).__init__, "__kwdefaults__", None) or {}
    check_options(type(head).__name__, type(head), defaults)


def _check_spec(subject: _Subject) -> None:
    """The spec round-trips through text and JSON and builds the same weights again."""
    spec = subject.spec
    if spec is None:
        raise _SkippedError
    head = subject.head()
    _require(head.spec == spec, f"its spec reads {head.spec}")
    for form, copied in (
        ("text", HeadSpec.parse(str(spec))),
        ("JSON", HeadSpec.from_dict(json.loads(json.dumps(spec.to_dict())))),
    ):
        _require(copied == spec, f"its {form} form reads back as {copied}")
        again = build_head(
            copied, subject.in_features, subject.out_features, generator=torch.Generator().manual_seed(0)
        )
        _require(_same_weights(again, head), f"built from its {form} form, it has different weights")


def _check_shapes(subject: _Subject) -> None:
    """(..., in_features) becomes (..., out_features) for any leading dimensions, including none and empty ones."""
    head = subject.head().eval()
    for leading in ((), (5,), (2, 3), (2, 3, 4), (0,), (2, 0)):
        shape = tuple(head(subject.tokens(*leading)).shape)
        expected = (*leading, subject.out_features)
        _require(shape == expected, f"token states of shape {(*leading, subject.in_features)} become {shape}")


def _check_widths(subject: _Subject) -> None:
    """Equal widths and more outputs than inputs work, or raise a ProjheadsError."""
    for in_features, out_features in ((16, 16), (8, 16)):
        try:
            head = subject.build(in_features, out_features, 0).eval()
        except ProjheadsError:
            continue
        shape = tuple(head(_random(3, in_features, seed=7)).shape)
        _require(
            shape == (3, out_features),
            f"built as {in_features} -> {out_features}, it returns shape {shape} for 3 tokens",
        )


def _check_input_kept(subject: _Subject) -> None:
    """Forward does not modify its input."""
    x = subject.tokens(3, 4)
    kept = x.clone()
    subject.head()(x)
    _require(torch.equal(x, kept), "forward changes its input")


def _check_initialised(subject: _Subject) -> None:
    """Neither the constructor nor reset_parameters leaves a weight uninitialised."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    # In this mode torch fills uninitialised memory with NaN.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        head = subject.head()
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    for name, tensor in head.state_dict().items():
        _require(bool(tensor.isfinite().all()), f"a new head leaves {name} uninitialised")
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(torch.nan)
    head.reset_parameters()
    for name, parameter in head.named_parameters():
        _require(bool(parameter.isfinite().all()), f"reset_parameters does not set {name}")


def _check_determinism(subject: _Subject) -> None:
    """Only the seed determines the weights; building and inference do not change the global random state."""
    before = torch.get_rng_state()
    first, again, other = subject.head(0), subject.head(0), subject.head(1)
    _require(torch.equal(before, torch.get_rng_state()), "building it changes the global random state")
    _require(_same_weights(first, again), "two heads with the same seed differ")
    drawn = any(parameter.numel() > 1 for parameter in first.parameters())
    _require(not (drawn and _same_weights(first, other)), "heads with different seeds are equal")
    x = subject.tokens(5)
    first.eval()
    _require(torch.equal(first(x), first(x)), "at inference, the same input gives different outputs")
    _require(torch.equal(before, torch.get_rng_state()), "inference changes the global random state")


def _check_tokens_apart(subject: _Subject) -> None:
    """A token's embedding depends only on that token, at inference and in training."""
    x = subject.tokens(3, 4)
    changed = x.clone()
    changed[0, 0] += 1.0
    for training in (False, True):
        head = subject.trained().train(training)
        outputs = []
        for tokens in (x, changed):
            with isolated_random_state(torch.Generator().manual_seed(0)):
                outputs.append(head(tokens).flatten(0, 1))
        mode = "training" if training else "inference"
        _require(
            _close(outputs[0][1:], outputs[1][1:]),
            f"in {mode} mode, one token changes the embedding of a different token",
        )
    head = subject.trained().eval()
    together = head(x)
    for i in range(3):
        single = torch.stack([head(token) for token in x[i]])
        _require(_close(together[i], single), "a token has a different embedding in a batch than on its own")


def _check_half_precision(subject: _Subject) -> None:
    """In bfloat16 and float16 the output has the same dtype and is close to the float32 output."""
    x = subject.tokens(8)
    exact = subject.head().eval()(x).detach()
    for dtype, tolerance in _HALF_TOLERANCE.items():
        half = subject.head().eval().to(dtype)(x.to(dtype))
        _require(half.dtype == dtype, f"a {dtype} head returns {half.dtype}")
        error = float((half.detach().float() - exact).norm() / exact.norm())
        _require(error < tolerance, f"in {dtype} the output is off by {error:.2g} of its norm")


def _check_gradients(subject: _Subject) -> None:
    """Every parameter and the input get a finite, nonzero gradient."""
    head = subject.trained()
    x = subject.tokens(64).requires_grad_()
    y = head(x)
    (y * _random(*y.shape, seed=8)).sum().backward()
    leaves: list[tuple[str, Tensor]] = [("the input", x)]
    leaves += [(f"parameter {name}", parameter) for name, parameter in head.named_parameters()]
    for name, leaf in leaves:
        if leaf.requires_grad:
            if leaf.grad is None:
                raise CheckError(f"{name} gets no gradient")
            _require(bool(leaf.grad.isfinite().all()), f"{name} gets a gradient that is not finite")
            _require(bool(leaf.grad.any()), f"{name} gets a gradient of 0")


def _check_inits(subject: _Subject) -> None:
    """Every initialisation gives a finite output, or raises a ProjheadsError if it does not apply."""
    if subject.spec is None:
        raise _SkippedError
    sample = subject.tokens(32)
    for init in list_inits():
        try:
            head = build_head(subject.spec, subject.in_features, subject.out_features, init=init, sample=sample)
        except ProjheadsError:
            continue
        _require(bool(head(sample).isfinite().all()), f"init {init} gives outputs that are not finite")


def _check_save(subject: _Subject) -> None:
    """Saved with safetensors and loaded into a second instance, it gives bitwise the same outputs."""
    saved, loaded = subject.trained().eval(), subject.head(1).eval()
    loaded.load_state_dict(safetensors.torch.load(safetensors.torch.save(to_save(saved.state_dict()))))
    x = subject.tokens(5)
    _require(torch.equal(saved(x), loaded(x)), "loaded weights give different outputs: some state is not saved")


def _check_compile(subject: _Subject) -> None:
    """torch.compile traces it as one graph, forward and backward; skipped if torch cannot trace."""
    head = subject.head().eval()
    torch.compiler.reset()
    try:
        compiled = torch.compile(head, backend="eager", fullgraph=True)
    except RuntimeError as error:
        raise _SkippedError from error
    x = subject.tokens(2, 3)
    y = compiled(x)
    _require(_close(y, head(x)), "when compiled, it gives different outputs")
    y.sum().backward()


def _check_fold(subject: _Subject) -> None:
    """If it claims to be linear, one matrix gives its embeddings to within 1e-6; fold does not modify the head."""
    head = subject.trained().eval()
    if not folds(head):
        raise _SkippedError
    kept = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    folded = fold(head)
    _require(all(torch.equal(kept[name], tensor) for name, tensor in head.state_dict().items()), "fold modifies it")
    x = subject.tokens(64)
    difference = float((_normalise(folded(x)) - _normalise(head(x))).detach().abs().max())
    _require(difference < 1e-6, f"it claims to be linear, but its folded embeddings differ by {difference:.2g}")


def _check_preserve(subject: _Subject) -> None:
    """If it can take over a linear map, it does so to within 1e-5, and all parameters get a gradient in two steps."""
    weight = _random(subject.out_features, subject.in_features, seed=9)
    head = subject.head().eval()
    try:
        take_over(head, weight)
    except ProjheadsError as error:
        raise _SkippedError from error
    x = subject.tokens(64)
    difference = float((_normalise(head(x)) - _normalise(x @ weight.T)).detach().abs().max())
    _require(difference < 1e-5, f"after it takes over a linear map, its embeddings differ by {difference:.2g}")
    without = dict(head.named_parameters())
    for _ in range(2):
        head.zero_grad()
        (head(x) * _random(64, subject.out_features, seed=10)).sum().backward()
        with torch.no_grad():
            for parameter in head.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=1e-3)
        without = {name: one for name, one in without.items() if one.grad is None or not one.grad.any()}
    _require(not without, f"after taking over a linear map, {', '.join(without)} get no gradient within two steps")


def _normalise(x: Tensor) -> Tensor:
    return nn.functional.normalize(x, dim=-1)


def _close(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y, rtol=1e-4, atol=1e-5 * float(y.detach().abs().max()))


def _same_weights(first: Head, second: Head) -> bool:
    weights = second.state_dict()
    return all(torch.equal(tensor, weights[name]) for name, tensor in first.state_dict().items())


_CHECKS: dict[str, Callable[[_Subject], None]] = {
    "attributes": _check_attributes,
    "spec": _check_spec,
    "shapes": _check_shapes,
    "widths": _check_widths,
    "input kept": _check_input_kept,
    "initialised": _check_initialised,
    "determinism": _check_determinism,
    "tokens apart": _check_tokens_apart,
    "half precision": _check_half_precision,
    "gradients": _check_gradients,
    "inits": _check_inits,
    "save": _check_save,
    "compile": _check_compile,
    "fold": _check_fold,
    "preserve": _check_preserve,
}
