"""configs/mini/cityscapes_seg.yaml."""

from ..cityscapes_seg import dataloader, lr_multiplier, model, optimizer, train
from ..common.data import multi_scale
from ..common.mini import shrink

shrink(model, train, dataloader)
model.sem_seg_head.conv_dim = 64
model.update(window_size=None, window_stride=None)

dataloader.train.dataset.names = ["mini_cityscapes_fine_sem_seg_train"]
dataloader.test.dataset.names = "mini_cityscapes_fine_sem_seg_val"
_resize, _crop, _, _colors, _pad = dataloader.train.mapper.augmentations
_resize.update(long_side=384, short_side=192, scale_range=[0.75, 1.25])
_crop.crop_size = _pad.size = [128, 128]
dataloader.train.mapper.augmentations.remove(_colors)
dataloader.test.mapper.augmentations[0].update(long_side=384, short_side=192)

tta = multi_scale([[384, 192]])

optimizer.lr = 3e-3
optimizer.params.rules = [[r"\.lora_", 1.0, 1.0], [r"\.unet\.", 0.5, 1.0]]
lr_multiplier.warmup_iters = 20

train.update(max_iter=460, output_dir="output/lazy/mini_cityscapes_seg")
