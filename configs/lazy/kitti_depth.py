"""`configs/kitti_depth.yaml` as a LazyConfig."""

from .common.recipe import from_yaml

dataloader, lr_multiplier, model, optimizer, train, _ = from_yaml("kitti_depth.yaml")
