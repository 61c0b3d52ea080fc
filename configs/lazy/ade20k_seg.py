"""configs/ade20k_seg.yaml."""

from metaprompt_d2.evaluation import CheckedSemSegEvaluator

from .cityscapes_seg import dataloader, lr_multiplier, model, optimizer, train
from .common.data import evaluators, multi_scale

model.sem_seg_head.update(num_classes=150, dropout=0.0)
model.update(window_size=[512, 512], window_stride=[341, 341])

dataloader.train.dataset.names = ["ade20k_sem_seg_train"]
dataloader.test.dataset.names = "ade20k_sem_seg_val"
_resize, _crop, _, _, _pad = dataloader.train.mapper.augmentations
_resize.short_side = dataloader.test.mapper.augmentations[0].short_side = 512
_crop.crop_size = _pad.size = [512, 512]
dataloader.evaluator = evaluators(CheckedSemSegEvaluator)

tta = multi_scale([[4 * short, short] for short in (256, 384, 512, 640, 768, 896, 1024)])

train.output_dir = "output/lazy/ade20k_seg"
