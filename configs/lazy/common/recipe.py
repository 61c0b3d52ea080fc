"""Translate a YAML recipe into the parts of a LazyConfig."""

from metaprompt_d2 import get_config

from .data import build_dataloader, build_tta
from .models import build_model
from .optim import build_lr_multiplier, build_optimizer
from .train import build_train


def from_yaml(name: str) -> tuple:
    """Translate a recipe, so that each of its values stands in the YAML file only.

    Args:
        name: Name of a packaged recipe such as "cityscapes_seg.yaml", or the path of a YAML file.

    Returns:
        dataloader, lr_multiplier, model, optimizer, train and tta. The last is None where the
        recipe has no test-time augmentation.
    """
    cfg = get_config(name)
    return (
        build_dataloader(cfg),
        build_lr_multiplier(cfg),
        build_model(cfg),
        build_optimizer(cfg),
        build_train(cfg),
        build_tta(cfg),
    )
