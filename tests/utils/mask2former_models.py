"""Small models of Mask2Former for tests."""

from collections.abc import Mapping
from typing import Any, TypeVar

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet
from transformers import Mask2FormerConfig, SwinConfig

from metaprompt_d2.modeling import Mask2FormerHead, UniversalSegmentor

Value = TypeVar("Value")

CHANNELS = (8, 16, 32, 64)  # of the features at strides 4, 8, 16, 32
_SIZES = {
    "feature_size": 32,
    "mask_feature_size": 16,
    "hidden_dim": 32,
    "num_attention_heads": 4,
    "encoder_layers": 2,
    "encoder_feedforward_dim": 24,
    "decoder_layers": 3,
    "dim_feedforward": 40,
    "num_queries": 6,
    "train_num_points": 112,
}


def tiny_config(num_labels: int = 5) -> Mask2FormerConfig:
    """Make a config of transformers, with a backbone of the head's channels."""
    names = ["stage1", "stage2", "stage3", "stage4"]
    backbone = SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, out_features=names)
    return Mask2FormerConfig(backbone_config=backbone, num_labels=num_labels, **_SIZES)


def tiny_head(num_classes: int = 5, **arguments: Any) -> Mask2FormerHead:
    """Make the head with the sizes of `tiny_config`."""
    shapes = {
        f"res{level + 2}": ShapeSpec(channels=width, stride=4 << level)
        for level, width in enumerate(CHANNELS)
    }
    sizes = {
        "num_queries": 6,
        "conv_dim": 32,
        "mask_dim": 16,
        "hidden_dim": 32,
        "num_heads": 4,
        "encoder_layers": 2,
        "encoder_feedforward_dim": 24,
        "decoder_layers": 3,
        "feedforward_dim": 40,
        "num_points": 112,
    }
    defaults = {"input_shape": shapes, "num_classes": num_classes}
    return Mask2FormerHead(**defaults | sizes | arguments)


def tiny_resnet() -> ResNet:
    """Make a backbone of Detectron2 with the head's channels."""
    widths = (8, *CHANNELS)
    stages = [
        ResNet.make_stage(
            BasicBlock,
            1,
            in_channels=widths[level],
            out_channels=widths[level + 1],
            stride_per_block=[2 if level else 1],
            norm="FrozenBN",
        )
        for level in range(4)
    ]
    names = ["res2", "res3", "res4", "res5"]
    return ResNet(BasicStem(out_channels=8, norm="FrozenBN"), stages, out_features=names)


def tiny_segmentor(num_classes: int = 5) -> UniversalSegmentor:
    """Make a model of `tiny_resnet` and `tiny_head`."""
    return UniversalSegmentor(
        backbone=tiny_resnet(),
        sem_seg_head=tiny_head(num_classes),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )


def head_weights(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """Rename the head's weights as in transformers' `Mask2FormerForUniversalSegmentation`."""
    parts = {
        "decoders.pixel_decoder.": "model.pixel_level_module.decoder.",
        "decoders.transformer_module.": "model.transformer_module.",
        "decoders.class_predictor.": "class_predictor.",
        "criterion.": "criterion.",
    }
    return {
        new + name.removeprefix(old): value
        for name, value in state_dict.items()
        for old, new in parts.items()
        if name.startswith(old)
    }


# Overrides of the smallest config (helpers.py) for a `UniversalSegmentor` of the head's sizes.
UNIVERSAL = {
    "MODEL.META_ARCHITECTURE": "UniversalSegmentor",
    "MODEL.SEM_SEG_HEAD.NAME": "Mask2FormerHead",
    "MODEL.MASK2FORMER.NUM_OBJECT_QUERIES": 6,
    "MODEL.MASK2FORMER.CONVS_DIM": 32,
    "MODEL.MASK2FORMER.MASK_DIM": 16,
    "MODEL.MASK2FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK2FORMER.NHEADS": 4,
    "MODEL.MASK2FORMER.ENC_LAYERS": 1,
    "MODEL.MASK2FORMER.ENC_DIM_FEEDFORWARD": 24,
    "MODEL.MASK2FORMER.DEC_LAYERS": 3,
    "MODEL.MASK2FORMER.DIM_FEEDFORWARD": 40,
    "MODEL.MASK2FORMER.TRAIN_NUM_POINTS": 112,
    "TEST.SLIDING_WINDOW.ENABLED": False,
}
