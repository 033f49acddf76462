"""moe: y = sum over e in top_k(R x) of E_e(x), experts E_e(x) = W_e act(U_e x), or W_e (act(G_e x) * U_e x).

Mixture of experts: Shazeer et al., 2017, arXiv 1701.06538; the load-balancing loss of Fedus et al., 2021, arXiv
2101.03961 (Switch Transformer), for several experts per token. The start ``convert`` makes one from a trained
``ffn`` or ``glu`` by cutting its hidden channels: Zhao et al., 2024, arXiv 2408.11855 (FactorLLM). Experts are summed
with weight 1, and the router learns from the gradient of its probabilities (a straight-through estimator), so that with
every expert on, the head is the one that was cut.

What to expect: many parameters, of which a token uses those of ``top_k`` experts; it does not fold. Tokens are divided
among the experts, so each is trained on fewer of them.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from projheads.blocks import ActivationName, DenseLayer, GateName, hidden_width, make_activation
from projheads.errors import ProjheadsError
from projheads.gains import activation_gain, linear_gain, mean_square
from projheads.head import Head, head_label
from projheads.preserve import preserve_chain
from projheads.registry import register_head

ExpertName: TypeAlias = Literal["ffn", "glu"]


@register_head("moe")
class Moe(Head):
    """Experts, of which a router chooses some for each token.

    Args:
        in_features: Width of the backbone's token states.
        out_features: Width of a token embedding.
        expert: The form of an expert: two matrices, or a gated layer and a matrix.
        experts: Number of experts.
        top_k: Experts that a token goes through.
        hidden_features: Hidden width of all experts together; by default the width of the input, unless ``factor`` is
            given. Experts differ by at most 1.
        factor: That width divided by ``in_features``.
        activation: The activation of an expert, or of its gate.
        balance: Weight of the load-balancing loss, which is 1 if every expert gets the same share of tokens.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        expert: ExpertName = "ffn",
        experts: int = 4,
        top_k: int = 2,
        hidden_features: int | None = None,
        factor: float | None = None,
        activation: ActivationName | GateName = "gelu",
        balance: float = 0.01,
    ) -> None:
        super().__init__(in_features, out_features)
        width = hidden_width("moe", in_features, hidden_features, factor)
        if not 1 <= experts <= width:
            raise ProjheadsError(f'head "moe": experts={experts} must be from 1 to the hidden width, {width}')
        if not 1 <= top_k <= experts:
            raise ProjheadsError(f'head "moe": top_k={top_k} must be from 1 to experts={experts}')
        if balance < 0:
            raise ProjheadsError(f'head "moe": balance={balance} must not be negative')
        self.top_k, self.balance, self.activation_name = top_k, balance, activation
        self.router = nn.Linear(in_features, experts, bias=False)
        self.experts = nn.ModuleList(
            _Expert(in_features, len(part), out_features, expert, activation)
            for part in torch.arange(width).tensor_split(experts)
        )

    def convert(self, old: nn.Module) -> None:
        """Cut the hidden channels of a trained head into experts; with ``top_k=experts`` it computes what that does.

        Args:
            old: A ``glu``, or an ``ffn`` of two layers, without biases, skips and idle channels.

        Raises:
            ProjheadsError: If it has a different form, or these experts do.
        """
        matrices, form, activation = _hidden_layer(old)
        width = matrices[-1].in_features
        experts = self._experts()
        own = "ffn" if experts[0].gate is None else "glu", self.activation_name, sum(one.width for one in experts)
        if own != (form, activation, width):
            wanted = f'expert="{form}", activation="{activation}", hidden_features={width}'
            raise ProjheadsError(f"{head_label(old)} is cut into experts of moe({wanted}); set these options")
        parts = torch.arange(width).tensor_split(len(experts))
        for one, part in zip(experts, parts, strict=True):
            for mine, theirs in zip(one.hidden_matrices(), matrices[:-1], strict=True):
                mine.weight.copy_(theirs.weight[part.to(theirs.weight.device)])
            weight = matrices[-1].weight
            one.output.weight.copy_(weight[:, part.to(weight.device)])

    def reset_parameters(self) -> None:
        """Reinitialise every matrix with torch's default for linear layers."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        tokens = x.reshape(-1, self.in_features)
        gates = self._gates(tokens)
        y = tokens.new_zeros(len(tokens), self.out_features)
        # A graph has one form for any choice, so there every expert sees every token.
        in_graph = torch.compiler.is_compiling()  # also while exporting
        for number, expert in enumerate(self.experts):
            if in_graph:
                y = y + gates[:, number, None] * expert(tokens)
            else:
                chosen = gates[:, number].detach().nonzero().squeeze(1)
                y = y.index_add(0, chosen, (gates[chosen, number, None] * expert(tokens[chosen])).to(y.dtype))
        return y.reshape(*x.shape[:-1], self.out_features)

    def nonlinear_part(self) -> str:
        """Name the router."""
        return "the choice of experts"

    def output_layers(self) -> list[nn.Linear]:
        """Return the second matrix of every expert."""
        return [expert.output for expert in self._experts()]

    def preserve(self, weight: Tensor, bias: Tensor | None) -> None:
        """Give every expert its share of the map, so that any choice of experts computes it.

        Raises:
            ProjheadsError: If experts are gated or too narrow, or the map has a bias.
        """
        for expert in self._experts():
            if expert.gate is not None:
                raise ProjheadsError('its experts are gated; set expert="ffn"')
            activation = self.activation_name
            preserve_chain(
                [DenseLayer.around(expert.up, activation=activation), expert.output], weight / self.top_k, bias
            )

    def layer_gains(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """Return the factors of every expert's U and W for the start ``critical``."""
        return [gain for expert in self._experts() for gain in expert.gains(x, mean_square(x) / self.top_k)]

    def training_loss(self, x: Tensor) -> Tensor | None:
        """Return balance * E * sum over experts of (share of the choices) * (mean probability)."""
        if not self.balance or len(self.experts) == self.top_k:
            return None
        probabilities = self.router(x).float().softmax(-1)
        chosen = torch.zeros_like(probabilities).scatter(-1, probabilities.topk(self.top_k).indices, 1 / self.top_k)
        shares = chosen.mean(0).detach()
        term: Tensor = self.balance * len(self.experts) * (shares * probabilities.mean(0)).sum()
        return term

    def _experts(self) -> list["_Expert"]:
        return [expert for expert in self.experts if isinstance(expert, _Expert)]

    def _gates(self, tokens: Tensor) -> Tensor:
        """Return 1 for the chosen experts of a token and 0 for the others, (tokens, experts)."""
        probabilities: Tensor = self.router(tokens).softmax(-1)
        chosen = torch.zeros_like(probabilities).scatter(-1, probabilities.topk(self.top_k).indices, 1.0)
        return chosen + chosen * (probabilities - probabilities.detach())


class _Expert(nn.Module):
    """W act(U x), or W (act(G x) * U x)."""

    def __init__(
        self, in_features: int, width: int, out_features: int, form: ExpertName, activation: ActivationName | GateName
    ) -> None:
        super().__init__()
        self.gate = nn.Linear(in_features, width, bias=False) if form == "glu" else None
        self.up = nn.Linear(in_features, width, bias=False)
        self.activation = make_activation(activation)
        self.activation_name = activation
        self.output = nn.Linear(width, out_features, bias=False)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        y: Tensor = self.output(self.activation(up) if self.gate is None else self.activation(self.gate(x)) * up)
        return y

    def gains(self, x: Tensor, target: float) -> list[tuple[Tensor, float]]:
        """Return factors of U and W that keep the mean square in the hidden channels and give the output this one."""
        up, inside = self.up(x), mean_square(x)
        if self.gate is None:
            gain = activation_gain(self.activation, up, inside)
            hidden = self.activation(gain * up)
        else:
            opened = self.activation(self.gate(x)) * up
            gain = linear_gain(opened, inside)
            hidden = gain * opened
        return [(self.up.weight, gain), (self.output.weight, linear_gain(self.output(hidden), target))]

    def hidden_matrices(self) -> list[nn.Linear]:
        """Return those that make the hidden channels."""
        return [self.up] if self.gate is None else [self.gate, self.up]


def _hidden_layer(head: nn.Module) -> tuple[list[nn.Linear], str, str]:
    """Return the matrices of a head with one hidden layer, the last one last, its form and its activation."""
    from projheads.heads.ffn import FFN
    from projheads.heads.glu import GLU

    matrices: list[nn.Linear] = []
    form, activation = "ffn", "identity"
    if isinstance(head, GLU):
        matrices, form, activation = [head.gate, head.up, head.output], "glu", head.activation_name
    elif isinstance(head, FFN) and len(head.layers) == 2:
        first, last = head.dense_layers()
        plain = not (first.use_residual or last.use_residual or first.idle) and last.activation_name == "identity"
        matrices, activation = ([first.linear, last.linear] if plain else []), first.activation_name
    if not matrices or any(matrix.bias is not None for matrix in matrices):
        raise ProjheadsError(
            f"{head_label(head)} cannot be cut into experts; it must be a glu, or an ffn of two layers, without bias, "
            "residual and idle"
        )
    return matrices, form, activation
