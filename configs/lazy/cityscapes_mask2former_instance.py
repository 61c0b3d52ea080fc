"""`configs/cityscapes_mask2former_instance.yaml` as a LazyConfig."""

from .common.recipe import from_yaml

dataloader, lr_multiplier, model, optimizer, train, tta = from_yaml(
    "cityscapes_mask2former_instance.yaml"
)
