"""The Cityscapes recipe with UPerHead on Detectron2's ViT."""

from ..cityscapes_seg import dataloader, lr_multiplier, model, optimizer, train, tta
from ..common.vit import use_vit

use_vit(model, optimizer, train)
for _shape in model.sem_seg_head.input_shape.values():
    _shape.channels = "${....backbone.out_channels}"

train.output_dir = "output/lazy/compose/cityscapes_seg_vit"
