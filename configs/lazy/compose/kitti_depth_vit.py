"""The KITTI recipe with DeconvDepthHead on Detectron2's ViT."""

from ..common.vit import use_vit
from ..kitti_depth import dataloader, lr_multiplier, model, optimizer, train

use_vit(model, optimizer, train)
model.depth_head.in_channels = "${..backbone.out_channels}"

train.output_dir = "output/lazy/compose/kitti_depth_vit"
