"""`configs/ade20k_mask2former_panoptic.yaml` as a LazyConfig."""

from .common.recipe import from_yaml

dataloader, lr_multiplier, model, optimizer, train, tta = from_yaml(
    "ade20k_mask2former_panoptic.yaml"
)
