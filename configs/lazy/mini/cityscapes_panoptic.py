"""`configs/mini/cityscapes_panoptic.yaml` as a LazyConfig."""

from ..common.recipe import from_yaml

dataloader, lr_multiplier, model, optimizer, train, tta = from_yaml("mini/cityscapes_panoptic.yaml")
