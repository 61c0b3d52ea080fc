"""configs/nyu_depth.yaml."""

from .common.data import depth as dataloader
from .common.models import depth_estimator as model
from .common.optim import optimizer
from .common.optim import rise_and_fall as lr_multiplier
from .common.train import train

dataloader.train.dataset.names = ["nyu_depth_v2_train"]
dataloader.test.dataset.names = "nyu_depth_v2_test"

optimizer.update(lr=5e-4, weight_decay=0.1)
optimizer.params.update(
    rules=[[r"\.lora_", 1.0, 1.0], [r"\.unet\.", 0.01, 1.0]], decay_vectors=False
)

# 25 epochs of 1009 updates
train.update(max_iter=25225, eval_period=1009, output_dir="output/lazy/nyu_depth")
train.checkpointer.period = 5045
train.best_metric.update(name="depth/rmse", mode="min")
