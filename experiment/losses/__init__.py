"""The training losses, one file each: the options in YAML and the computation. A new loss is a new file and entry."""

from experiment.losses.contrastive import Contrastive, contrastive_loss, pair_accuracy
from experiment.losses.kl import KL
from experiment.losses.loss import Loss
from experiment.losses.margin_mse import MarginMSE

__all__ = ["KL", "LOSSES", "Contrastive", "Loss", "MarginMSE", "contrastive_loss", "pair_accuracy"]

LOSSES = {loss.model_fields["name"].default: loss for loss in (Contrastive, KL, MarginMSE)}
"""The losses by the name that ``train.loss`` gives."""
