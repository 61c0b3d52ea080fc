"""configs/mini/kitti_depth.yaml."""

from ..common.mini import shrink
from ..kitti_depth import dataloader, lr_multiplier, model, optimizer, train

shrink(model, train, dataloader)
model.depth_head.update(deconv_dims=[32, 16, 16], conv_dim=16)
model.update(resize_scale=0, num_windows=3)

dataloader.train.dataset.names = ["mini_kitti_eigen_train"]
dataloader.test.dataset.names = "mini_kitti_eigen_test"
dataloader.train.total_batch_size = 2
# Without distortions of brightness and colour.
del dataloader.train.mapper.augmentations[3:]
dataloader.train.mapper.augmentations[2].size = [256, 256]

optimizer.lr = 2e-3
optimizer.params.rules = [[r"\.lora_", 1.0, 1.0], [r"\.unet\.", 0.5, 1.0]]

train.update(max_iter=650, eval_period=0, output_dir="output/lazy/mini_kitti_depth")
train.checkpointer.period = 5000
