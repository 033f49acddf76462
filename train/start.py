"""The head whose map the others start from: that of a trained ColBERT, or the baseline."""

import torch
from torch import nn

from experiment.config import ExperimentConfig
from projheads import ProjheadsError, build_head, fold
from projheads.hosts.backbone import resolve_backbone
from projheads.hosts.base import Host
from projheads.hosts.model_folder import has_projection
from projheads.init import find_init

__all__ = ["old_head"]


def old_head(config: ExperimentConfig, host: Host) -> nn.Module | None:
    """Return the backbone's own head, for ``preserve`` folded into one layer, for ``convert`` as it is; otherwise None.

    Under ``shared`` it is the baseline's, which differs between seeds: see :func:`train.preparation.new_head`.

    Raises:
        ProjheadsError: If the backbone has no head, its head is not linear, or a variant cannot represent it; there
            is one line for each such variant.
    """
    init = config.heads.init
    if not find_init(init).needs_old or find_init(init).fallback is not None:
        return None
    model, out_features = config.model, config.heads.out_features
    folder = resolve_backbone(model.backbone, model.settings())
    if not has_projection(folder):
        raise ProjheadsError(
            f'model.backbone: "{model.backbone}" has no projection head, from which heads.init: {init} starts; give '
            "the folder of a trained ColBERT, such as trials/<variant>/seed-<n>/model of an experiment"
        )
    trained = host.load(str(folder), model.settings(), dtype=torch.float32)
    if trained.out_features > out_features:
        raise ProjheadsError(
            f'heads.out_features: is {out_features}, but the head of "{model.backbone}" has {trained.out_features}; '
            f"heads.init: {init} cannot leave out any; the width may only grow"
        )
    old = fold(trained.head) if find_init(init).takes_map else trained.head
    refused = []
    for spec in config.heads.variants:
        try:
            build_head(spec, trained.in_features, out_features, init=init, old=old)
        except ProjheadsError as error:
            refused.append(f"heads.variants: {error}")
    if refused:
        raise ProjheadsError("\n".join(refused))
    return old
