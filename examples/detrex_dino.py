r"""DINO of detrex on Stable Diffusion's UNet. Run it in a checkout of detrex:

    python tools/convert_checkpoint.py /path/to/stable-diffusion-v1-5 sd15.pkl --to detectron2
    cd /path/to/detrex
    python tools/train_net.py --config-file /path/to/metaprompt_d2/examples/detrex_dino.py \
        --num-gpus 8 train.init_checkpoint=/path/to/sd15.pkl
"""

from detectron2.config import LazyConfig
from detectron2.layers import ShapeSpec

from metaprompt_d2.modeling import meta_prompt_backbone

_dino = LazyConfig.load("projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py")
dataloader, lr_multiplier, model = _dino.dataloader, _dino.lr_multiplier, _dino.model
optimizer, train = _dino.optimizer, _dino.train

# Raw maps of strides 8, 16 and 32. DINO makes one of stride 64 from the last.
_channels = {"up3": 320, "up4": 640, "up5": 1280}
model.backbone = meta_prompt_backbone("sd1.5", rearrange="none", out_features=[*_channels])
model.neck.in_features = [*_channels]
model.neck.input_shapes = {name: ShapeSpec(channels=width) for name, width in _channels.items()}
model.pixel_mean = model.pixel_std = [127.5, 127.5, 127.5]  # RGB in [-1, 1]

train.output_dir = "./output/dino_metaprompt_4scale_12ep"
dataloader.evaluator.output_dir = train.output_dir
