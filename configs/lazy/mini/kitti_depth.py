"""configs/mini/kitti_depth.yaml."""

from detectron2.config import LazyCall as L

from metaprompt_d2.data import ResizeToBox
from metaprompt_d2.modeling import DenseModelWithTTA

from ..common.mini import shrink
from ..common.optim import warmup_poly as lr_multiplier
from ..kitti_depth import dataloader, model, optimizer, train

shrink(model, train, dataloader)
model.depth_head.update(max_depth=160.0, deconv_dims=[32, 16, 16], conv_dim=16)
model.update(resize_scale=0, num_windows=3)

dataloader.train.dataset.names = ["mini_kitti_eigen_train"]
dataloader.test.dataset.names = "mini_kitti_eigen_test"
dataloader.train.total_batch_size = 8
# Half the files' size; neither CutDepth nor distortions of brightness and colour.
_, _flip, _window, *_ = dataloader.train.mapper.augmentations
_window.size = [128, 128]
dataloader.train.mapper.augmentations = [
    L(ResizeToBox)(long_side=256, short_side=128),
    _flip,
    _window,
]
tta = dict(enabled=True, model=L(DenseModelWithTTA)(boxes=[[256, 128]], flip=False, num_channels=1))

optimizer.lr = 3e-3
optimizer.params.rules = [[r"\.lora_", 1.0, 1.0], [r"\.unet\.", 0.5, 1.0]]
lr_multiplier.update(power=0.9, warmup_factor=0.001, warmup_iters=20)

train.update(max_iter=700, eval_period=0, output_dir="output/lazy/mini_kitti_depth")
train.checkpointer.period = 5000
