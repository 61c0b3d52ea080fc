r"""Detectron2's ViTDet, Mask R-CNN on a simple feature pyramid, on Stable Diffusion's UNet.

    python tools/convert_checkpoint.py /path/to/stable-diffusion-v1-5 sd15.pkl --to detectron2
    python /path/to/detectron2/tools/lazyconfig_train_net.py --config-file examples/vitdet.py \
        --num-gpus 8 train.init_checkpoint=sd15.pkl
"""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from metaprompt_d2.modeling import meta_prompt_backbone

SIZE = 1024

model = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model
# The pyramid makes its levels from one map of stride 16. `square_pad` pads all images to one size,
# which must be a multiple of 64, the stride of the UNet's coarsest map.
model.backbone.net = meta_prompt_backbone(rearrange="none", num_steps=1, out_features=["up4"])
model.backbone.in_feature = "up4"
model.backbone.square_pad = SIZE
model.pixel_mean = model.pixel_std = [127.5, 127.5, 127.5]  # RGB in [-1, 1]

dataloader = model_zoo.get_config("common/data/coco.py").dataloader
dataloader.train.mapper.image_format = "RGB"
dataloader.train.mapper.augmentations = [
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=SIZE, target_width=SIZE),
    L(T.FixedSizeCrop)(crop_size=(SIZE, SIZE), pad=False),
    L(T.RandomFlip)(horizontal=True),
]
dataloader.test.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=SIZE, max_size=SIZE)
]

optimizer = model_zoo.get_config("common/optim.py").AdamW
lr_multiplier = model_zoo.get_config("common/coco_schedule.py").lr_multiplier_1x
train = model_zoo.get_config("common/train.py").train
train.output_dir = "./output/vitdet"
