"""residual: y = S x + scale * F(x), where S is the identity if the widths agree and a bias-free matrix otherwise.

Residual connections: He et al., 2016, arXiv 1512.03385; a matrix in the skip is their option for different widths.
Around a projection head: Clavié et al., 2025, arXiv 2510.12327.

What to expect: embeddings that start close to those of the skip, which helps short training and a new head in a trained
model. It folds only if F does.
"""

import torch
from torch import Tensor, nn

from projheads.build import construct_head
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.registry import register_head
from projheads.reparameterization import reparameterize, with_skip
from projheads.spec import HeadSpec


@register_head("residual")
class Residual(Head):
    """A skip around any other head.

    For skips inside a chain, as in PyLate and sentence-transformers, see ``ffn``.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        inner: The head F.
        scale: The factor of F(x). It can be 0, which starts from only the skip, if it is learned.
        learned_scale: Whether ``scale`` is the initial value of a parameter.
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
                'head "residual": scale=0 removes the inner head; set learned_scale=true or a nonzero scale'
            )
        self.inner = construct_head(inner, in_features, out_features)
        self.skip = None if in_features == out_features else nn.Linear(in_features, out_features, bias=False)
        self.initial_scale = scale
        self.scale = nn.Parameter(torch.full((1,), scale)) if learned_scale else scale

    def reset_parameters(self) -> None:
        """Reinitialise F and S and reset the scale to its initial value."""
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
        """Return that of F."""
        return self.inner.nonlinear_part()

    def output_layers(self) -> list[nn.Module]:
        """Return those of F and S; an identity skip has no layer to scale."""
        return [*self.inner.output_layers(), *([] if self.skip is None else [self.skip])]

    def equal_forms(self) -> list[Head]:
        """Return the skip around the cheapest form of F, whose own skip is merged into it."""
        scale = self.scale.item() if isinstance(self.scale, nn.Parameter) else self.scale
        inner = reparameterize(self.inner)
        if scale == 0:
            return []
        skip = None if self.skip is None else self.skip.weight
        if isinstance(inner, Residual) and skip is not None and inner.skip is not None:
            skip = skip + scale * inner.skip.weight
            scale *= float(inner.scale)
            inner = inner.inner
        return [with_skip(inner, skip, scale)]

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Set S to the map and F to zero; if S is the identity, F takes the difference."""
        missing = torch.zeros_like(weight) if self.skip is not None else weight - torch.eye(len(weight)).to(weight)
        if self.skip is not None:
            self.skip.weight.copy_(weight)
        if self.initial_scale == 0:
            # F contributes nothing yet, so it keeps its initial weights: if it were 0 too, neither it nor the scale
            # would get a gradient.
            if missing.any() or bias is not None:
                raise ProjheadsError("its scale starts at 0, so F cannot hold what the skip does not cover")
            return
        self.inner.preserve(missing / self.initial_scale, None if bias is None else bias / self.initial_scale)
