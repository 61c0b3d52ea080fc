"""`configs/mapillary_pretrain_seg.yaml` as a LazyConfig."""

from .common.recipe import from_yaml

dataloader, lr_multiplier, model, optimizer, train, tta = from_yaml("mapillary_pretrain_seg.yaml")
