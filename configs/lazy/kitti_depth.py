"""configs/kitti_depth.yaml."""

from .nyu_depth import dataloader, lr_multiplier, model, optimizer, train

model.depth_head.max_depth = 80.0
model.update(resize_scale=2, num_windows=16)

dataloader.train.dataset.names = ["kitti_eigen_train"]
dataloader.test.dataset.names = "kitti_eigen_test"
dataloader.train.mapper.augmentations[2].size = [352, 352]

# 25 epochs of 965 updates
train.update(max_iter=24125, eval_period=965, output_dir="output/lazy/kitti_depth")
train.checkpointer.period = 4825
