"""residual: y = S x + scale * F(x), with S the identity where the widths agree and a bias-free matrix otherwise.

Residual connections: He et al., 2016, arXiv 1512.03385; a matrix in the skip is their option for widths that differ.
Around a projection head: Clavié et al., 2025, arXiv 2510.12327.
"""

import torch
from torch import Tensor, nn

from projheads.build import construct_head
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.registry import register_head
from projheads.spec import HeadSpec


@register_head("residual")
class Residual(Head):
    """A skip around any other head.

    For the skips inside a chain that PyLate and sentence-transformers know, see ``ffn``.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        inner: The head F.
        scale: What F(x) is multiplied by; 0, a start from the skip alone, only if it is learned.
        learned_scale: Whether the scale is a parameter that starts there.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        inner: HeadSpec = HeadSpec("ffn"),  # noqa: B008 - a HeadSpec is frozen
        scale: float = 1.0,
        learned_scale: bool = False,
    ) -> None:
        super().__init__(in_features, out_features)
        if scale == 0 and not learned_scale:
            raise ProjheadsError(
                'head "residual": scale=0 takes the inner head away; give learned_scale=true or a scale'
            )
        self.inner = construct_head(inner, in_features, out_features)
        self.skip = None if in_features == out_features else nn.Linear(in_features, out_features, bias=False)
        self.initial_scale = scale
        self.scale = nn.Parameter(torch.full((1,), scale)) if learned_scale else scale

    def reset_parameters(self) -> None:
        """Draw F and S anew and set the scale back to where it started."""
        self.inner.reset_parameters()
        if self.skip is not None:
            self.skip.reset_parameters()
        if isinstance(self.scale, nn.Parameter):
            nn.init.constant_(self.scale, self.initial_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        skipped = x if self.skip is None else self.skip(x)
        y: Tensor = skipped + self.scale * self.inner(x)
        return y

    def nonlinear_part(self) -> str | None:
        """Name that of F."""
        return self.inner.nonlinear_part()

    def output_layers(self) -> list[nn.Linear]:
        """List those of F and S; an identity skip has no layer to scale."""
        return [*self.inner.output_layers(), *([] if self.skip is None else [self.skip])]

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Give S the map and let F start at zero; F takes what is missing where S is the identity."""
        missing = torch.zeros_like(weight) if self.skip is not None else weight - torch.eye(len(weight)).to(weight)
        if self.skip is not None:
            self.skip.weight.copy_(weight)
        if self.initial_scale == 0:
            # F, which adds nothing yet, stays as drawn: were it 0 as well, neither it nor the scale had a gradient.
            if missing.any() or bias is not None:
                raise ProjheadsError("its scale starts at 0, so that F can not hold what the skip has no part for")
            return
        self.inner.preserve(missing / self.initial_scale, None if bias is None else bias / self.initial_scale)
