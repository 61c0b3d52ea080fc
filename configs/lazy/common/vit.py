"""Detectron2's ViT-B with ViTDet's simple feature pyramid: p2 to p5 with 256 channels."""

from detectron2 import model_zoo
from omegaconf import DictConfig

_backbone = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model.backbone
_constants = model_zoo.get_config("common/data/constants.py").constants


def use_vit(model: DictConfig, optimizer: DictConfig, train: DictConfig) -> None:
    """Replace a recipe's backbone by the ViT with ImageNet's colors, at a tenth of the rate."""
    model.backbone = _backbone
    model.backbone.square_pad = 0
    model.pixel_mean = _constants.imagenet_rgb256_mean
    model.pixel_std = _constants.imagenet_rgb256_std
    optimizer.params.update(rules=[[r"\.net\.", 0.1, 1.0]], unet_layer_decay=1.0)
    train.init_checkpoint = (
        "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_base.pth?matching_heuristics=True"
    )
    train.ddp.find_unused_parameters = True  # heads don't read every level
