"""The registries of depth and heatmap heads, and what builds a head from a config."""

from collections.abc import Mapping

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

from ...utils.errors import InputError, get_registered

DEPTH_HEADS_REGISTRY = Registry("DEPTH_HEADS")
DEPTH_HEADS_REGISTRY.__doc__ = """
Heads that predict depth from a backbone's features. A head is built as `head(cfg, input_shape)`
and has the `forward(features, image_size, targets=None)` of `DeconvDepthHead`.

A head that resizes features by itself may have an attribute `upscale`: exported programs of a
dynamic size then take images with sides that are multiples of it.
"""

HEATMAP_HEADS_REGISTRY = Registry("HEATMAP_HEADS")
HEATMAP_HEADS_REGISTRY.__doc__ = """
Heads that predict keypoint heatmaps from a backbone's features. A head is built as
`head(cfg, input_shape)` and has the `forward(features, image_size, targets=None)` of
`DeconvHeatmapHead`.
"""


def build_depth_head(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """Build the head that MODEL.DEPTH_HEAD.NAME names."""
    name = cfg.MODEL.DEPTH_HEAD.NAME
    return get_registered(DEPTH_HEADS_REGISTRY, name, "MODEL.DEPTH_HEAD.NAME")(cfg, input_shape)


def build_heatmap_head(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """Build the head that MODEL.HEATMAP_HEAD.NAME names."""
    name = cfg.MODEL.HEATMAP_HEAD.NAME
    return get_registered(HEATMAP_HEADS_REGISTRY, name, "MODEL.HEATMAP_HEAD.NAME")(cfg, input_shape)


def find_feature(input_shape: Mapping[str, ShapeSpec], name: str, key: str) -> ShapeSpec:
    """Find the shape of the feature that a config key names.

    Raises:
        InputError: The backbone has no such feature.
    """
    if name not in input_shape:
        features = list(input_shape)
        raise InputError(f"{key} is {name!r}, expected one of the backbone's features {features}")
    return input_shape[name]
