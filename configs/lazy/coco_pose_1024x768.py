"""`configs/coco_pose_1024x768.yaml` as a LazyConfig."""

from .common.recipe import from_yaml

dataloader, lr_multiplier, model, optimizer, train, _ = from_yaml("coco_pose_1024x768.yaml")
