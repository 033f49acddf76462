"""How the first weights of a head are drawn, independently of the head's form.

An initialisation is a function below :func:`register_init`; listing, configuration and tests find it by its name.
"""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from projheads.errors import ProjheadsError, unknown_name
from projheads.folding import fold
from projheads.gains import WithGains
from projheads.head import Head, head_label, reference_tensor
from projheads.matched import MatchedProducts

__all__ = [
    "INITS",
    "Given",
    "Init",
    "find_init",
    "initialise",
    "isolated_random_state",
    "list_inits",
    "register_init",
    "take_over",
]

_STEPS = 100
_TOLERANCE = 1e-5
_ADDED_NORM = 0.1
"""Norm of an additional output's row, as a share of the others' mean: their squares then add a hundredth of theirs."""
_CENTRED = "centred-"
_OTHERS, _RIDGE = 0.8, 1e-3


@dataclass(frozen=True)
class Given:
    """What an initialisation may use.

    Attributes:
        init: The name of the initialisation.
        in_features: Width of the token states.
        generator: The CPU generator for everything that is drawn.
        given_sample: Token states, if the caller has some.
        given_old: The head that is replaced, if there is one.
        given_matches: Products of matched token states, if the caller has some.
    """

    init: str
    in_features: int
    generator: torch.Generator
    given_sample: Tensor | None
    given_old: nn.Module | None
    given_matches: MatchedProducts | None = None

    @property
    def matches(self) -> MatchedProducts:
        """Products of matched token states; a ProjheadsError if there are none of that width."""
        if self.given_matches is None or len(self.given_matches.spread) != self.in_features:
            raise ProjheadsError(
                f"init {self.init} needs products of matched token states of width {self.in_features}, from pairs of a "
                "query and a relevant document"
            )
        return self.given_matches

    @property
    def sample(self) -> Tensor:
        """Token states (n, in_features); a ProjheadsError if there are none of that width."""
        sample = self.given_sample
        if sample is None or sample.ndim != 2 or sample.shape[1] != self.in_features or not len(sample):
            got = "none" if sample is None else f"shape {tuple(sample.shape)}"
            raise ProjheadsError(f"init {self.init} needs a sample of token states (n, {self.in_features}), got {got}")
        return sample

    @property
    def old(self) -> nn.Module:
        """The head that is replaced; a ProjheadsError if there is none."""
        if self.given_old is None:
            raise ProjheadsError(f"init {self.init} needs the old head, from which the new one starts")
        return self.given_old


Draw = Callable[[Head, Given], None]


@dataclass(frozen=True)
class Init:
    """A registered initialisation.

    Attributes:
        name: Its name in YAML and in :func:`projheads.build.build_head`.
        draw: Gives a freshly constructed head its first weights, in place, without gradients.
        needs_sample: Whether it looks at a sample of token states.
        needs_old: Whether it starts from the head that is replaced.
        takes_map: Whether it makes the head compute a given linear map, which not every head can; see
            :meth:`projheads.head.Head.preserve`.
        fallback: The initialisation that training uses for a head that cannot take over the map; None if such a head
            is an error.
        needs_matches: Whether it looks at products of matched token states.
        version: Raised when a change to the code changes the weights that it gives.
    """

    name: str
    draw: Draw
    needs_sample: bool
    needs_old: bool
    takes_map: bool
    fallback: str | None = None
    needs_matches: bool = False
    version: int = 1

    @property
    def doc(self) -> str:
        """What it does, in a sentence or two."""
        return " ".join(inspect.cleandoc(self.draw.__doc__ or "").partition("\n\n")[0].split())


INITS: dict[str, Init] = {}
"""The registered initialisations by name."""


def register_init(
    name: str,
    *,
    needs_sample: bool = False,
    needs_old: bool = False,
    takes_map: bool = False,
    fallback: str | None = None,
    needs_matches: bool = False,
    version: int = 1,
) -> Callable[[Draw], Draw]:
    """Register the function below, ``draw(head, given)``, as the initialisation of that name; see :class:`Init`.

    Raises:
        ProjheadsError: If the name is taken.
    """

    def register(draw: Draw) -> Draw:
        if name in INITS:
            raise ProjheadsError(f'init "{name}": the name is taken by {INITS[name].draw.__qualname__}')
        INITS[name] = Init(name, draw, needs_sample, needs_old, takes_map, fallback, needs_matches, version)
        return draw

    return register


def list_inits() -> list[str]:
    """List the initialisations in alphabetical order; ``projheads.init.find_init(name).doc`` describes each."""
    return sorted(INITS)


def find_init(name: str) -> Init:
    """Return a registered initialisation, or ``centred-<name>``: the same with its mean output taken off.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    base = name.removeprefix(_CENTRED)
    if base != name and base in INITS:
        return _centred_init(INITS[base])
    if name not in INITS:
        raise unknown_name("init", name, INITS)
    return INITS[name]


def initialise(
    head: Head,
    init: str,
    *,
    generator: torch.Generator,
    sample: Tensor | None = None,
    old: nn.Module | None = None,
    matches: MatchedProducts | None = None,
) -> None:
    """Give a freshly constructed head its first weights, in place.

    Args:
        head: A head as its constructor left it.
        init: One of :func:`list_inits`.
        generator: The CPU generator for everything that is drawn.
        sample: Token states (n, in_features), for initialisations that look at data.
        old: The head that is replaced, for initialisations that start from it; it must fold.
        matches: Products of matched token states, for initialisations that look at training pairs.

    Raises:
        ProjheadsError: If the name is unknown, what the initialisation needs is missing or has the wrong width, or the
            head does not allow it.
    """
    draw = find_init(init).draw
    with torch.no_grad():
        draw(head, Given(init, head.in_features, generator, sample, old, matches))


def take_over(head: Head, weight: Tensor, bias: Tensor | None = None) -> None:
    """Make a freshly constructed head compute weight x + bias, in place; see :meth:`projheads.head.Head.preserve`.

    Raises:
        ProjheadsError: If the widths differ, a number is not finite, or the head cannot; the message says why.
    """
    if tuple(weight.shape) != (head.out_features, head.in_features):
        widths = f"{weight.shape[1]} -> {weight.shape[0]}"
        raise ProjheadsError(
            f"{head_label(head)} maps {head.in_features} -> {head.out_features}; it cannot take over a map {widths}"
        )
    if not weight.isfinite().all():
        raise ProjheadsError(f"{head_label(head)} cannot take over weights that are not finite")
    exact = weight.detach().cpu().double()
    added = bias.detach().cpu().double() if bias is not None and bias.any() else None
    with torch.no_grad():
        try:
            head.preserve(exact, added)
        except ProjheadsError as error:
            raise ProjheadsError(f"{head_label(head)} cannot take over a linear map: {error}") from None


@contextlib.contextmanager
def isolated_random_state(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global CPU random state from a generator for the block, then restore it."""
    seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@register_init("torch")
def _torch(head: Head, given: Given) -> None:
    """What the constructors draw; for linear layers uniform in +-1/sqrt(fan_in)."""


@register_init("xavier")
def _xavier(head: Head, given: Given) -> None:
    """Every matrix Glorot-uniform (Glorot and Bengio, 2010), every bias of a linear layer 0."""
    _draw_matrices(head, lambda matrix: nn.init.xavier_uniform_(matrix, generator=given.generator))


@register_init("orthogonal")
def _orthogonal(head: Head, given: Given) -> None:
    """Every matrix (semi-)orthogonal (Saxe et al., 2014), every bias of a linear layer 0."""
    _draw_matrices(head, lambda matrix: nn.init.orthogonal_(matrix, generator=given.generator))


@register_init("preserve", needs_old=True, takes_map=True)
def _preserve(head: Head, given: Given) -> None:
    """The map of the old head, for a model that is already trained; additional outputs come last, and start small."""
    folded = fold(given.old)
    take_over(head, *_widened(folded.weight, folded.bias, head.out_features, given.generator))


@register_init("convert", needs_old=True)
def _convert(head: Head, given: Given) -> None:
    """The weights of the old head in a different form: ``moe`` cuts the hidden channels of an ``ffn`` or ``glu``.

    See :meth:`projheads.head.Head.convert`.
    """
    try:
        head.convert(given.old)
    except ProjheadsError as error:
        raise ProjheadsError(f"init convert: {head_label(head)}: {error}") from None


def _widened(
    weight: Tensor, bias: Tensor | None, out_features: int, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Append drawn outputs to a map; the first ones, scaled to norm 1, give the map's embeddings.

    Zeros would never change: in a product of query and document, each side's gradient is a multiple of the other side.
    """
    added = out_features - len(weight)
    if added <= 0:
        return weight, bias
    exact = weight.detach().cpu().double()
    rows = torch.randn(added, weight.shape[1], generator=generator, dtype=torch.float64)
    rows *= _ADDED_NORM * exact.norm(dim=1).mean() / rows.norm(dim=1, keepdim=True)
    return torch.cat([exact, rows]), None if bias is None else torch.cat(
        [bias.detach().cpu(), bias.new_zeros(added).cpu()]
    )


@register_init("shared", needs_old=True, takes_map=True, fallback="torch")
def _shared(head: Head, given: Given) -> None:
    """The map that the baseline draws with that seed; a head that cannot take it over starts as under ``torch``."""
    _preserve(head, given)


@register_init("pca", needs_sample=True, takes_map=True)
def _pca(head: Head, given: Given) -> None:
    """The linear map onto the out_features principal directions of the normalised, uncentred token states.

    Of all maps of that width, it best keeps the cosines that MaxSim sums over (Eckart and Young, 1936). The largest
    entry of each direction is positive, so that signs do not vary. Directions in which no state extends come last.
    """
    states = functional.normalize(given.sample.detach().cpu().double(), dim=-1)
    directions = _top(states.T @ states, head, given)
    if len(states) < head.out_features:
        raise ProjheadsError(
            f"init pca needs {head.out_features} token states, one for each of the out_features, got {len(states)}"
        )
    take_over(head, _signed(directions))


def _signed(directions: Tensor) -> Tensor:
    """Make the largest entry of each row positive."""
    return directions * directions.gather(1, directions.abs().argmax(dim=1, keepdim=True)).sign()


@register_init("svd", takes_map=True, needs_matches=True)
def _svd(head: Head, given: Given) -> None:
    """An orthonormal basis of the whitened directions that matched token states of 512 training pairs share most.

    A query token's state is matched with its winner in the relevant document. The products of matched states are
    whitened by the second moment of all states; their top eigenvectors, mapped back, span the directions (Abu-El-Haija
    et al., 2021, arXiv 2111.06312, start deep models by SVD where they are linear). nDCG@10 before any training, on
    pydocs and SQuAD with a frozen MiniLM, and on both with a frozen e5-small: svd .602, .796, .549, .773; svd-plain
    .590, .800, .547, .768; pca .581, .795, .513, .761; one random map .584, .781, .490, .725; the backbone without a
    head .600, .807, .562, .791. Centring (centred-svd) changes svd by -.000 to +.003.
    """
    values, vectors = torch.linalg.eigh(given.matches.spread)
    whitening = (vectors * (values + _RIDGE * values[-1]) ** -0.5) @ vectors.T
    directions = _top(whitening @ given.matches.relevant @ whitening, head, given) @ whitening
    take_over(head, _signed(torch.linalg.qr(directions.T).Q.T))


@register_init("svd-plain", takes_map=True, needs_matches=True)
def _svd_plain(head: Head, given: Given) -> None:
    """The directions that matched token states share more than unmatched ones, without whitening; see ``svd``.

    They are the top eigenvectors of the products of matched states less 0.8 of those with the winners in other
    documents.
    """
    take_over(head, _signed(_top(given.matches.relevant - _OTHERS * given.matches.others, head, given)))


def _top(product: Tensor, head: Head, given: Given) -> Tensor:
    """Return the top eigenvectors (out_features, in_features) of a symmetrised product."""
    if head.out_features > len(product):
        raise ProjheadsError(
            f"init {given.init} has {len(product)} directions, one for each of the in_features, fewer than the "
            f"{head.out_features} out_features"
        )
    vectors: Tensor = torch.linalg.eigh(product + product.T).eigenvectors
    return vectors.T.flip(0)[: head.out_features]


@register_init("norm-matched", needs_sample=True)
def _norm_matched(head: Head, given: Given) -> None:
    """As torch, but with output layers rescaled so that every head starts with the mean output norm of a linear one.

    W uniform in +-1/sqrt(in_features) has E|Wx|^2 = out_features |x|^2 / (3 in_features). The target is that
    expectation rather than one draw of W, so it is the same for every head and every seed.
    """
    name = type(head).__name__
    layers = head.output_layers()
    if not layers:
        raise ProjheadsError(f"init norm-matched: {name} names no output_layers to scale; use a different init")
    sample = given.sample.to(reference_tensor(head))
    target = sample.norm(dim=-1).mean() * math.sqrt(head.out_features / (3 * head.in_features))
    head.eval()
    for _ in range(_STEPS):
        ratio = float(target / head(sample).norm(dim=-1).mean())
        if not math.isfinite(ratio) or abs(ratio - 1) < _TOLERANCE:
            break
        for layer in layers:
            for parameter in layer.parameters():
                parameter.mul_(ratio)
    head.train()
    if not abs(ratio - 1) < _TOLERANCE:
        raise ProjheadsError(f"init norm-matched: scaling the output layers of {name} does not reach norm {target:.3g}")


@register_init("critical", needs_sample=True, version=2)
def _critical(head: Head, given: Given) -> None:
    """Every matrix (semi-)orthogonal, with gains that keep the mean square of the states through every activation.

    The gains are measured on the sample, layer by layer; for normally distributed states they are the usual ones (He et
    al., 2015; Roberts, Yaida and Hanin, 2021). In a layer whose skip is a matrix, skip and branch get half of the mean
    square each. A skip through the identity has no gain, so it adds its mean square to that of the branch, as does the
    skip of ``residual``. A head without :meth:`~projheads.head.Head.layer_gains` has no gains. Every bias of a layer is
    0.
    """
    in_layers = {id(parameter) for module in head.modules() if _is_layer(module) for parameter in module.parameters()}
    for name, parameter in head.named_parameters():
        if parameter.ndim >= 2 and id(parameter) not in in_layers:
            raise ProjheadsError(f"init critical: {head_label(head)} has the matrix {name} outside of a linear layer")
    _orthogonal(head, given)
    for module in head.modules():
        if _is_layer(module):
            for parameter in module.parameters():
                if parameter.ndim < 2:
                    parameter.zero_()
                else:
                    parameter.mul_(math.sqrt(max(1.0, parameter.shape[-2] / parameter.shape[-1])))
    scaled: set[nn.Module] = set()

    def scale(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """Scale the weights of a module just before the first states pass through it."""
        x = arguments[0].reshape(-1, arguments[0].shape[-1])
        if module not in scaled and len(x) and isinstance(module, WithGains):
            scaled.add(module)
            for weight, gain in module.layer_gains(x):
                weight.mul_(gain)

    training = head.training
    hooks: list[RemovableHandle] = []
    try:
        hooks += [one.register_forward_pre_hook(scale) for one in head.modules() if isinstance(one, WithGains)]
        head.eval()(given.sample.to(reference_tensor(head)))
    except ProjheadsError as error:
        raise ProjheadsError(f"init critical: {head_label(head)}: {error}") from None
    finally:
        for hook in hooks:
            hook.remove()
        head.train(training)


def _is_layer(module: nn.Module) -> bool:
    """Return whether a module multiplies by its ``weight``: a linear layer, or a stack of them."""
    weight = getattr(module, "weight", None)
    return isinstance(module, nn.Linear) or (isinstance(weight, Tensor) and weight.ndim == 3)


@register_init("centred", needs_sample=True)
def _centred(head: Head, given: Given) -> None:
    """As torch, but with the mean output of the sample taken off the bias: -W mu for a linear head.

    ``centred-pca`` does the same to the start ``pca``, and so on for every other name.
    """
    _centre(head, given.sample.to(reference_tensor(head)))


def _centred_init(base: Init) -> Init:
    """Return an initialisation that centres the outputs of another one."""

    def draw(head: Head, given: Given) -> None:
        base.draw(head, given)
        _centre(head, given.sample.to(reference_tensor(head)))

    fallback = None if base.fallback is None else _CENTRED + base.fallback
    return replace(base, name=_CENTRED + base.name, draw=draw, needs_sample=True, fallback=fallback)


def _centre(head: Head, sample: Tensor) -> None:
    biases = [bias for layer in head.output_layers() if isinstance(bias := getattr(layer, "bias", None), Tensor)]
    if not biases:
        raise ProjheadsError(
            f"a centred start needs a bias, which the output of {head_label(head)} lacks; set bias=true"
        )
    head.eval()
    mean = head(sample).mean(0)
    biases[0].sub_(mean)
    moved = float((mean - head(sample).mean(0)) @ mean / (mean @ mean).clamp_min(1e-30))  # a residual head may scale it
    if moved:
        biases[0].sub_(mean * (1 / moved - 1))
    outputs = head(sample)
    head.train()
    if not float(outputs.mean(0).norm()) <= 1e-3 * float(outputs.norm(dim=-1).mean()):
        raise ProjheadsError(f"a centred start needs a bias that is added last; that of {head_label(head)} is not")


def _draw_matrices(head: Head, draw: Callable[[Tensor], Tensor]) -> None:
    for parameter in head.parameters():
        for matrix in parameter if parameter.ndim == 3 else [parameter]:  # block-diagonal: a stack of matrices
            if matrix.ndim == 2:
                draw(matrix)
    for module in head.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()
