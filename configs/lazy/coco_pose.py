"""configs/coco_pose.yaml."""

from .common.data import pose as dataloader
from .common.models import pose_estimator as model
from .common.optim import optimizer
from .common.optim import warmup_steps as lr_multiplier
from .common.train import train

dataloader.train.dataset.names = ["coco_2017_person_topdown_train"]
dataloader.test.dataset.names = "coco_2017_person_topdown_val_det"

optimizer.update(lr=5e-4, weight_decay=0.1)
optimizer.params.update(
    rules=[
        [r"\.lora_", 1.0, 1.0],
        [r"meta_prompts\.embeddings|step_embeddings", 1.0, 0.0],
        [r"\.unet\.", 0.1, 1.0],
    ],
    decay_vectors=False,
    unet_layer_decay=0.9,
)

# 210 epochs of 293 updates, less rate after 170 and 200
train.update(
    max_iter=61530, eval_period=2930, max_grad_norm=1.0, output_dir="output/lazy/coco_pose"
)
train.checkpointer.period = 2930
train.best_metric.name = "keypoints/AP"
lr_multiplier.scheduler.update(milestones=[49810, 58600], num_updates=61530)
lr_multiplier.warmup_length = 500 / 61530
