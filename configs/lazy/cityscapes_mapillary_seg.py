"""configs/cityscapes_mapillary_seg.yaml."""

from .cityscapes_seg import dataloader, lr_multiplier, model, optimizer, train, tta

model.backbone.refinement.num_steps = 1

dataloader.train.dataset.names.append("cityscapes_autolabelled_sem_seg_train_extra")

train.init_checkpoint = "output/lazy/mapillary_pretrain_seg/model_final.pth"
train.output_dir = "output/lazy/cityscapes_mapillary_seg"
