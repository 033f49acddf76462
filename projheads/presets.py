"""Named presets for known heads. Does not import torch.

Hidden widths are as released, but a preset accepts any ``in_features`` and ``out_features``. The ``paper_*`` presets
follow the paper's blocks; if the text available to us gives no width or activation, they use the head's defaults.
"""

from dataclasses import dataclass

from projheads.errors import ProjheadsError
from projheads.spec import HeadSpec

__all__ = ["Preset", "list_presets", "preset", "resolve_preset"]

_PAPER = "Clavié et al., 2025, arXiv 2510.12327"


@dataclass(frozen=True)
class Preset:
    """A known head.

    Attributes:
        spec: The registered head and its options.
        source: Where it comes from.
    """

    spec: HeadSpec
    source: str


_PRESETS = {
    "edge": Preset(
        HeadSpec("ffn", {"depth": 2, "hidden_features": 512}),
        "LateOn-Code-edge: 256 -> 512 -> 48, no activation, no bias",
    ),
    "lateon": Preset(
        HeadSpec("ffn", {"depth": 3, "hidden_features": (1536, 768), "residual": True}),
        "LateOn: 768 -> 1536 (residual) -> 768 (residual) -> 128, no activation, no bias",
    ),
    "paper_best": Preset(
        HeadSpec("upscaled", {"factor": 2.0, "residual": True}),
        f"{_PAPER}: two layers, intermediate twice as wide as the input, residual",
    ),
    "paper_ffn": Preset(HeadSpec("ffn", {"depth": 2}), f"{_PAPER}: the deeper FFN block"),
    "paper_glu": Preset(HeadSpec("glu", {"activation": "sigmoid"}), f"{_PAPER}: the GLU block"),
    "paper_residual": Preset(
        HeadSpec("residual", {"inner": HeadSpec("ffn", {"depth": 2})}), f"{_PAPER}: the FFN block with a skip around it"
    ),
    "paper_upscaled": Preset(
        HeadSpec("upscaled", {"factor": 2.0}), f"{_PAPER}: the FFN block with an upscaled intermediate"
    ),
    "simclr": Preset(
        HeadSpec("ffn", {"depth": 2, "activation": "relu"}),
        "SimCLR: Chen et al., 2020, arXiv 2002.05709, as wide as the input, ReLU between; without its batch "
        "normalisation, in which tokens of a batch see each other",
    ),
    "pylate_gelu": Preset(
        HeadSpec("ffn", {"depth": 2, "hidden_features": 512, "activation": "gelu"}),
        'PyLate\'s documentation, "Defining dense layers": 768 -> 512 -> 128, GELU between, no bias',
    ),
}


def list_presets() -> list[str]:
    """Return the names of the presets in alphabetical order."""
    return sorted(_PRESETS)


def preset(name: str) -> Preset:
    """Return a preset by a name from :func:`list_presets`."""
    return _PRESETS[name]


def resolve_preset(spec: HeadSpec) -> HeadSpec:
    """Expand a preset into its spec; other specs are returned unchanged.

    Raises:
        ProjheadsError: If a preset is given options.
    """
    if spec.name not in _PRESETS:
        return spec
    if spec.options:
        written_out = _PRESETS[spec.name].spec
        raise ProjheadsError(f'"{spec.name}" is a preset and takes no options; write {written_out} instead')
    return _PRESETS[spec.name].spec
