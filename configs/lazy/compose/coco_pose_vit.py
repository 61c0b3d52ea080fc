"""The COCO recipe with DeconvHeatmapHead on Detectron2's ViT."""

from ..coco_pose import dataloader, lr_multiplier, model, optimizer, train
from ..common.vit import use_vit

use_vit(model, optimizer, train)
model.heatmap_head.in_channels = "${..backbone.out_channels}"

train.output_dir = "output/lazy/compose/coco_pose_vit"
