"""A project of somebody else, which DETECTRON2_ENV_MODULE names: keys, a model and a mapper.

Like Mask2Former it sets a key that this package has, too: INPUT.DATASET_MAPPER_NAME.
"""

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import nn
from torch.nn import functional as F

from metaprompt_d2.config import CONFIG_KEYS_REGISTRY
from metaprompt_d2.data import DATASET_MAPPERS_REGISTRY, SemSegMapper


def setup_environment() -> None:
    CONFIG_KEYS_REGISTRY.register(add_tint_config)
    DATASET_MAPPERS_REGISTRY.register(tint_semantic)
    META_ARCH_REGISTRY.register(TintModel)


def add_tint_config(cfg: CfgNode) -> None:
    cfg.INPUT.DATASET_MAPPER_NAME = "tint_semantic"
    cfg.MODEL.TINT = CfgNode()
    cfg.MODEL.TINT.NUM_CLASSES = 2
    cfg.MODEL.TINT.LOSS_WEIGHT = 1.0


def tint_semantic(cfg: CfgNode, is_train: bool) -> SemSegMapper:
    return SemSegMapper(cfg, is_train)


class TintModel(nn.Module):
    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.backbone = build_backbone(cfg)
        channels = self.backbone.output_shape()["p2"].channels
        self.classify = nn.Conv2d(channels, cfg.MODEL.TINT.NUM_CLASSES, 1)
        self.loss_weight = cfg.MODEL.TINT.LOSS_WEIGHT

    @property
    def device(self) -> torch.device:
        return self.classify.weight.device

    def forward(self, inputs: list[dict]) -> dict | list[dict]:
        outputs, losses = [], []
        for item in inputs:
            image = item["image"].to(self.device).float() / 127.5 - 1
            logits = self.classify(self.backbone(image[None])["p2"])
            if self.training:
                logits = F.interpolate(logits, image.shape[1:])
                labels = item["sem_seg"].to(self.device)[None]
                losses.append(F.cross_entropy(logits, labels, ignore_index=255))
            else:
                size = item.get("height", image.shape[1]), item.get("width", image.shape[2])
                outputs.append({"sem_seg": F.interpolate(logits, size)[0]})
        if self.training:
            return {"loss_tint": self.loss_weight * sum(losses) / len(losses)}
        return outputs
