"""householder: y = W H_n ... H_1 x, with H_i = I - beta_i k_i k_i^T, |k_i| = 1 and beta_i between 0 and 2.

Generalised Householder reflections: Siems et al., 2025, arXiv 2502.10297 (DeltaProduct); Yang et al., 2024,
arXiv 2406.06484 (DeltaNet). Here a token only sees itself: their recurrence over the sequence is not part of this head.
With ``gated``, k_i and beta_i are linear functions of the token, k_i normalised and beta_i squashed.

What to expect: without ``gated``, the cost of ``linear`` after folding. Each reflection only rotates or shrinks one
direction, so a few of them change the map little. With ``gated`` it does not fold.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from projheads.blocks import check_most_layers
from projheads.errors import ProjheadsError
from projheads.head import Head
from projheads.preserve import set_linear
from projheads.registry import register_head

_EPSILON = 1e-6  # does not round to 0 in float16, so that a token of zeros has no NaN
_START = math.log(3)  # beta = 1.5: a reflection that shortens, and can be inverted


@register_head("householder")
class Householder(Head):
    """Reflections of the token before a matrix.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        reflections: Number of reflections, from 1 to 100.
        gated: Whether the reflections depend on the token, which costs ``in_features ** 2`` multiply-adds for each;
            otherwise they are parameters, and the head folds.
        bias: Whether the matrix has a bias.
    """

    def __init__(
        self, in_features: int, out_features: int, *, reflections: int = 2, gated: bool = False, bias: bool = False
    ) -> None:
        super().__init__(in_features, out_features)
        if reflections < 1:
            raise ProjheadsError(f'head "householder": reflections={reflections} must be at least 1')
        check_most_layers("householder", "reflections", reflections)
        self.reflections, self.gated = reflections, gated
        if gated:
            self.keys = nn.Linear(in_features, reflections * in_features, bias=False)
            self.betas = nn.Linear(in_features, reflections)
        else:
            self.key = nn.Parameter(torch.empty(reflections, in_features))
            self.beta = nn.Parameter(torch.empty(reflections))
        self.output = nn.Linear(in_features, out_features, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw k_i from a normal distribution, or as torch draws a linear layer, and start at beta_i = 1.5."""
        self.output.reset_parameters()
        if self.gated:
            self.keys.reset_parameters()
            self.betas.reset_parameters()
            nn.init.constant_(self.betas.bias, _START)
        else:
            nn.init.normal_(self.key)
            nn.init.constant_(self.beta, _START)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        y: Tensor = self.output(self._reflect(x))
        return y

    def nonlinear_part(self) -> str | None:
        """Name the reflections if they depend on the token."""
        return "the reflections, which depend on the token" if self.gated else None

    def output_layers(self) -> list[nn.Linear]:
        """Return W."""
        return [self.output]

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Keep the reflections as they were drawn and let W undo them before the map.

        Raises:
            ProjheadsError: If the reflections depend on the token, or the map has a bias and the head does not.
        """
        if self.gated:
            raise ProjheadsError("its reflections depend on the token; set gated=false")
        product = torch.eye(self.in_features, dtype=torch.float64)
        for key, beta in zip(self.key.detach().cpu().double(), self.beta.detach().cpu().double(), strict=True):
            key = functional.normalize(key, dim=-1)
            product = product - 2 * beta.sigmoid() * torch.outer(key, key @ product)
        set_linear(self.output, torch.linalg.solve(product, weight, left=False), bias)

    def _reflect(self, x: Tensor) -> Tensor:
        if self.gated:
            keys = self.keys(x).unflatten(-1, (self.reflections, self.in_features)).unbind(-2)
            betas = 2 * self.betas(x).sigmoid().unsqueeze(-1)
        else:
            keys, betas = self.key.unbind(0), 2 * self.beta.sigmoid().unsqueeze(-1)
        for number, key in enumerate(keys):
            direction = functional.normalize(key, dim=-1, eps=_EPSILON)
            x = x - betas[..., number, :] * direction * (direction * x).sum(-1, keepdim=True)
        return x
