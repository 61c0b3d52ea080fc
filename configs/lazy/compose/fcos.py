"""configs/compose/fcos.yaml, from Detectron2's own LazyConfig of FCOS."""

from detectron2 import model_zoo

from metaprompt_d2.data import build_train_loader
from metaprompt_d2.modeling import MetaPromptFPN

from ..common.models import PIXELS as _PIXELS
from ..common.models import meta_prompt_backbone
from ..common.optim import optimizer
from ..common.train import train

_zoo = model_zoo.get_config("COCO-Detection/fcos_R_50_FPN_1x.py")
model, dataloader, lr_multiplier = _zoo.model, _zoo.dataloader, _zoo.lr_multiplier

model.backbone._target_ = MetaPromptFPN
model.backbone.bottom_up = meta_prompt_backbone()
model.backbone.in_features = ["up3", "up4", "up5"]
model.update(_PIXELS)
dataloader.train.mapper.image_format = "RGB"

# As the recipes: the order of images is a function of the seed and the iteration.
dataloader.train._target_ = build_train_loader
dataloader.train.seed = "${train.seed}"

# The UNet at a tenth of the rate.
optimizer.params.rules = [[r"\.lora_", 1.0, 1.0], [r"\.unet\.", 0.1, 1.0]]

train.best_metric.name = "bbox/AP"
train.output_dir = "output/lazy/compose/fcos"
