"""A trained model as one that needs no projheads: stock checkpoints, Stanford's layout, ONNX.

Works on the files of a checkpoint of either host, which need not be installed. Stock checkpoints need torch and
safetensors alone; the other forms need transformers, which every host brings.
"""

from projheads.export.convert import FORMATS, Exported, export_checkpoint, fold_checkpoint

__all__ = ["FORMATS", "Exported", "export_checkpoint", "fold_checkpoint"]
