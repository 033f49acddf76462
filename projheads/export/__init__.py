"""Checkpoints written anew: folded, with another head, or in a form that needs no projheads.

``fold`` and ``export`` work on the files of a checkpoint of either host, which need not be installed: stock checkpoints
need torch, safetensors and the numpy that it writes with, the other forms transformers. ``swap`` opens the model with a
host.
"""

from projheads.export.convert import FORMATS, export_checkpoint, fold_checkpoint
from projheads.export.result import Exported
from projheads.export.swap import read_texts, swap_checkpoint

__all__ = ["FORMATS", "Exported", "export_checkpoint", "fold_checkpoint", "read_texts", "swap_checkpoint"]
