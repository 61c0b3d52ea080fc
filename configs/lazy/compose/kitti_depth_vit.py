"""DeconvDepthHead and the KITTI recipe on Detectron2's ViT."""

from ..common.vit import use
from ..kitti_depth import dataloader, lr_multiplier, model, optimizer, train

use(model, optimizer, train)
model.depth_head.in_channels = "${..backbone.out_channels}"

train.output_dir = "output/lazy/compose/kitti_depth_vit"
