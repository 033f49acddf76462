"""Write model folders: folded, with a different head, or in a form that does not need projheads.

``fold`` and ``export`` work on the files of a model folder; the host that wrote it need not be installed. Stock folders
need torch, safetensors and numpy, the other forms transformers as well. ``swap`` opens the model with a host.
"""

from projheads.export.convert import FORMATS, export_model, fold_model
from projheads.export.result import Exported
from projheads.export.soup import soup_models
from projheads.export.swap_folder import read_texts, swap_model

__all__ = ["FORMATS", "Exported", "export_model", "fold_model", "read_texts", "soup_models", "swap_model"]
