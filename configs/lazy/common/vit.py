"""Detectron2's ViT-B with the simple feature pyramid of ViTDet: p2 to p5 of 256 channels."""

from detectron2 import model_zoo

backbone = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model.backbone
backbone.square_pad = 0

_constants = model_zoo.get_config("common/data/constants.py").constants
pixels = dict(pixel_mean=_constants.imagenet_rgb256_mean, pixel_std=_constants.imagenet_rgb256_std)


def use(model, optimizer, train):
    """Put it below a recipe's model, with ImageNet's colours, at a tenth of the rate."""
    model.backbone = backbone
    model.update(pixels)
    optimizer.params.update(rules=[[r"\.net\.", 0.1, 1.0]], unet_layer_decay=1.0)
    train.init_checkpoint = (
        "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_base.pth?matching_heuristics=True"
    )
    train.ddp.find_unused_parameters = True  # of the levels that a head does not read
