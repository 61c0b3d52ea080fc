"""configs/mini/coco_pose.yaml."""

from ..coco_pose import dataloader, model, optimizer, train
from ..common.mini import shrink
from ..common.optim import warmup_poly as lr_multiplier

shrink(model, train, dataloader)
model.backbone.out_features = ["p2"]
model.backbone.refinement.meta_prompts.num_prompts = 34  # 2 a joint
model.heatmap_head.update(wiring="prompts", in_feature="p2", in_stride=4, loss="cross_entropy")
model.codec.update(crop_size=[192, 128], heatmap_size=[48, 32], sigma=1.5, blur_kernel=9)
model.padding = 1.1

dataloader.train.dataset.names = ["mini_coco_person_topdown_train"]
dataloader.test.dataset.names = "mini_coco_person_topdown_val"
dataloader.train.total_batch_size = 8
_jitter, _, _half_body, _scale_and_rotate = dataloader.train.mapper.augmentations
_jitter.probability = _half_body.probability = 0.0
_scale_and_rotate.update(scale=0.15, rotation=8.0)

optimizer.lr = 3e-3
optimizer.params.update(
    rules=[[r"\.lora_", 1.0, 1.0], [r"\.unet\.", 0.5, 1.0]], unet_layer_decay=1.0
)
lr_multiplier.update(warmup_factor=0.001, warmup_iters=20)

train.update(max_iter=720, eval_period=0, output_dir="output/lazy/mini_coco_pose")
