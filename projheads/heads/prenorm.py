"""prenorm: y = F(g * norm(x) [+ b]), with layer normalisation or root mean square normalisation.

Layer normalisation: Ba et al., 2016, arXiv 1607.06450; RMSNorm: Zhang and Sennrich, 2019, arXiv 1910.07467. Projectors
of vision-language models start like this: with a layer norm in InternVL and Qwen2-VL, with an RMS norm in Gemma 3.

What to expect: embeddings that depend less on the norm of the token states. It does not fold, because the norm depends
on the token. Many backbones already end in a layer norm, so that little is left to normalise.
"""

from typing import Literal, TypeAlias

from torch import Tensor, nn

from projheads.build import build_head, construct_head
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.registry import register_head
from projheads.reparameterization import reparameterize
from projheads.spec import HeadSpec, OptionValue

NormName: TypeAlias = Literal["layer", "rms"]

_EPSILON = 1e-6


@register_head("prenorm")
class Prenorm(Head):
    """A normalisation before any other head.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        inner: The head F.
        norm: ``layer`` subtracts a token's mean and has a bias b; ``rms`` only scales.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        inner: HeadSpec = HeadSpec("ffn", {"activation": "gelu"}),  # noqa: B008 - a HeadSpec is frozen
        norm: NormName = "layer",
    ) -> None:
        super().__init__(in_features, out_features)
        norms = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
        self.norm_name = norm
        self.norm: nn.LayerNorm | nn.RMSNorm = norms[norm](in_features, eps=_EPSILON)
        self.inner = construct_head(inner, in_features, out_features)

    def reset_parameters(self) -> None:
        """Reinitialise F, and reset g to 1 and b to 0."""
        self.norm.reset_parameters()
        self.inner.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        y: Tensor = self.inner(self.norm(x))
        return y

    def nonlinear_part(self) -> str:
        """Name the normalisation."""
        return f"the {self.norm_name} norm"

    def output_layers(self) -> list[nn.Module]:
        """Return those of F."""
        return list(self.inner.output_layers())

    def equal_forms(self) -> list[Head]:
        """Return the norm before the cheapest form of F."""
        inner = reparameterize(self.inner)
        options: dict[str, OptionValue] = {"inner": inner.spec}
        if self.norm_name != "layer":
            options["norm"] = self.norm_name
        made = build_head(HeadSpec("prenorm", options), self.in_features, self.out_features).double()
        weights = {f"inner.{name}": tensor for name, tensor in inner.state_dict().items()}
        made.load_state_dict({f"norm.{name}": tensor for name, tensor in self.norm.state_dict().items()} | weights)
        return [made]

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Give F the map: an RMS norm only changes the length of the token, and so of its embedding.

        Raises:
            ProjheadsError: If the norm is a layer norm, the map has a bias, or F cannot.
        """
        if self.norm_name == "layer":
            raise ProjheadsError('a layer norm subtracts the mean of each token; use norm="rms"')
        if bias is not None:
            raise ProjheadsError("the map has a bias, which does not scale with the token as its norm does")
        self.inner.preserve(weight, None)
