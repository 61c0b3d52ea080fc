"""`configs/compose/fcos.yaml` as a LazyConfig: Detectron2's own of FCOS, on this backbone."""

from detectron2 import model_zoo

from metaprompt_d2 import get_config
from metaprompt_d2.data import build_train_loader
from metaprompt_d2.modeling import MetaPromptFPN

from ..common.models import build_backbone
from ..common.optim import build_optimizer
from ..common.train import build_train

_cfg = get_config("compose/fcos.yaml")
_zoo = model_zoo.get_config("COCO-Detection/fcos_R_50_FPN_1x.py")
model, dataloader, lr_multiplier = _zoo.model, _zoo.dataloader, _zoo.lr_multiplier
optimizer, train = build_optimizer(_cfg), build_train(_cfg)

model.backbone._target_ = MetaPromptFPN
model.backbone.bottom_up = build_backbone(_cfg)
model.backbone.in_features = _cfg.MODEL.FPN.IN_FEATURES
model.update(pixel_mean=_cfg.MODEL.PIXEL_MEAN, pixel_std=_cfg.MODEL.PIXEL_STD)
dataloader.train.mapper.image_format = _cfg.INPUT.FORMAT

# A training stream whose order depends only on the seed and the iteration, as in the recipes.
dataloader.train._target_ = build_train_loader
dataloader.train.seed = "${train.seed}"

train.eval_period = 5000  # the YAML file evaluates at the end only
