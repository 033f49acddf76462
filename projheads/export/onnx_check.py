"""Whether an ONNX file computes what the model computes, on the tokens that a host makes of texts."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from projheads.errors import ProjheadsError
from projheads.export.opened import Source
from projheads.hosts import load_host
from projheads.hosts.base import HostModel

__all__ = ["onnx_difference"]

_TOLERANCE = 1e-3
_TEXTS = (
    "What is the capital of France?",
    "rain",
    "",
    "A projection head maps each token state to a token embedding; here are 3 of them: (a), [b] & c!",
    "the cat sat on the mat and looked at the blue bird outside " * 40,
)


def onnx_difference(source: Source, file: Path) -> tuple[float, str]:
    """Compare an ONNX file with the model as its host opens it: queries with expansion, and documents.

    Args:
        source: The model.
        file: The ONNX file.

    Returns:
        The largest absolute difference between elements of token embeddings of norm 1, and the model's data type.

    Raises:
        ProjheadsError: If the file computes something else: with the model in float32, it differs by more than
            rounding.
    """
    host = load_host("auto", model_folder=source.folder)
    model = host.load(str(source.folder), source.options)
    dtype = next(model.native.parameters()).dtype
    found = _largest(model, file)
    wide = model if dtype == torch.float32 else host.load(str(source.folder), source.options, dtype=torch.float32)
    exact = found if wide is model else _largest(wide, file)
    for side, difference in exact.items():
        if not difference <= _TOLERANCE:
            raise ProjheadsError(
                f"{source.folder}: cannot be exported to ONNX: embeddings of {side} differ from the model's by up to "
                f"{difference:.1e}; the exporter does not translate this encoder correctly"
            )
    return max(found.values()), str(dtype).removeprefix("torch.")


def _largest(model: HostModel, file: Path) -> dict[str, float]:
    """Return the largest difference over the tokens that take part in MaxSim, for queries and for documents."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = {}
    for side in ("queries", "documents"):
        tokens = model.tokenize(_TEXTS, is_query=side == "queries")
        with torch.no_grad():
            expected = F.normalize(model.head(model.token_states(tokens)).float(), dim=-1)
        inputs = {name: tokens[name].numpy() for name in ("input_ids", "attention_mask")}
        computed: Tensor = torch.from_numpy(session.run(None, inputs)[0])
        kept = model.scoring_mask(tokens, is_query=side == "queries")
        found[side] = float((computed - expected).abs()[kept].max())
    return found
