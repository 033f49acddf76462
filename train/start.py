"""What heads start from where the backbone is a trained ColBERT: the head that its checkpoint holds."""

from torch import nn

from experiment.config import ExperimentConfig
from projheads import ProjheadsError, build_head, fold
from projheads.hosts.backbone import resolve_backbone
from projheads.hosts.base import Host
from projheads.hosts.model_folder import has_projection

__all__ = ["old_head"]


def old_head(config: ExperimentConfig, host: Host) -> nn.Linear | None:
    """Return what the backbone's own head folds into, for ``heads.init: preserve``; None for the other schemes.

    Raises:
        ProjheadsError: If the backbone has no head, its head is not linear, or a variant can not take it over; the
            lines name every such variant.
    """
    if config.heads.init != "preserve":
        return None
    model, out_features = config.model, config.heads.out_features
    folder = resolve_backbone(model.backbone, model.settings())
    if not has_projection(folder):
        raise ProjheadsError(
            f'model.backbone: "{model.backbone}" has no projection head, which heads.init: preserve goes on from; give '
            "the folder of a trained ColBERT, such as trials/<variant>/seed-<n>/model of an experiment"
        )
    trained = host.load(str(folder), model.settings())
    if trained.out_features != out_features:
        raise ProjheadsError(
            f'heads.out_features: is {out_features}, the head of "{model.backbone}" gives {trained.out_features}; '
            "heads.init: preserve needs the same"
        )
    old, refused = fold(trained.head), []
    for spec in config.heads.variants:
        try:
            build_head(spec, old.in_features, out_features, init="preserve", old=old)
        except ProjheadsError as error:
            refused.append(f"heads.variants: {error}")
    if refused:
        raise ProjheadsError("\n".join(refused))
    return old
