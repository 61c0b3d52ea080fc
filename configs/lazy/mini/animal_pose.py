"""`configs/mini/animal_pose.yaml` as a LazyConfig."""

from ..common.recipe import from_yaml

dataloader, lr_multiplier, model, optimizer, train, _ = from_yaml("mini/animal_pose.yaml")
