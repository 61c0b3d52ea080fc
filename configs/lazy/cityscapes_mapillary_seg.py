"""`configs/cityscapes_mapillary_seg.yaml` as a LazyConfig."""

from .common.recipe import from_yaml

dataloader, lr_multiplier, model, optimizer, train, tta = from_yaml("cityscapes_mapillary_seg.yaml")
