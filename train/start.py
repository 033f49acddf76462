"""What heads start from where the backbone is a trained ColBERT: the head that its checkpoint holds."""

from types import ModuleType

from torch import nn

from experiment.config import ExperimentConfig
from projheads import ProjheadsError, build_head, fold
from projheads.hosts.backbone import resolve_backbone
from projheads.hosts.files import has_projection
from projheads.init import find_init

__all__ = ["old_head"]


def old_head(config: ExperimentConfig, host: ModuleType) -> nn.Linear | None:
    """Return what the backbone's own head folds into, if the initialisation needs it as ``preserve`` does.

    Raises:
        ProjheadsError: If the backbone has no head, its head is not linear, or a variant cannot take it over; the
            lines name every such variant.
    """
    init = config.heads.init
    if not find_init(init).needs_old:
        return None
    model, out_features = config.model, config.heads.out_features
    folder = resolve_backbone(model.backbone, revision=model.revision)
    if not has_projection(folder):
        raise ProjheadsError(
            f'model.backbone: "{model.backbone}" has no projection head, from which heads.init: {init} starts; give '
            "the folder of a trained ColBERT, such as trials/<variant>/seed-<n>/model of an experiment"
        )
    trained = host.load(str(folder), trust_remote_code=model.trust_remote_code)
    if trained.out_features != out_features:
        raise ProjheadsError(
            f'heads.out_features: is {out_features}, the head of "{model.backbone}" gives {trained.out_features}; '
            f"heads.init: {init} needs the same"
        )
    old, refused = fold(trained.head), []
    for spec in config.heads.variants:
        try:
            build_head(spec, old.in_features, out_features, init=init, old=old)
        except ProjheadsError as error:
            refused.append(f"heads.variants: {error}")
    if refused:
        raise ProjheadsError("\n".join(refused))
    return old
