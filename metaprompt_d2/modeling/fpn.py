"""Detectron2's FPN on the UNet's raw maps, for Detectron2's own detectors and segmentors."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import Tensor, nn

from ..utils.errors import InputError
from .backbone import MetaPromptBackbone


class FinerMap(Backbone):
    """A backbone with an additional map, twice as fine as its finest one.

    Detectron2's R-CNNs need features of stride 4, but the UNet's finest map has stride 8. As in
    ViTDet (arXiv 2203.16527, `SimpleFeaturePyramid`), a transposed convolution doubles its size.
    """

    def __init__(self, backbone: Backbone):
        """
        Args:
            backbone: Backbone whose features are named with log2 of their strides, such as "up3".
        """
        super().__init__()
        self.backbone = backbone
        shapes = backbone.output_shape()
        self._finest = min(shapes, key=lambda name: shapes[name].stride)
        channels, stride = shapes[self._finest].channels, shapes[self._finest].stride
        self._name = _finer(self._finest)
        self._shapes = {self._name: ShapeSpec(channels=channels // 2, stride=stride // 2)} | shapes
        self.upsample = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the features of `output_shape()` for images (N, 3, H, W)."""
        features = self.backbone(images)
        return {self._name: self.upsample(features[self._finest])} | features

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._shapes)

    @property
    def size_divisibility(self) -> int:
        return self.backbone.size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        return self.backbone.padding_constraints


class MetaPromptFPN(FPN):
    """Detectron2's FPN that also asks for the padding that its backbone needs.

    The UNet's maps only have their strides on multiples of 64 pixels, even if the FPN doesn't read
    the map of stride 64.
    """

    def __init__(self, bottom_up: Backbone, in_features: Sequence[str], **arguments: Any):
        """
        Args:
            bottom_up: `MetaPromptBackbone` without rearrangement. A finer map is added if
                `in_features` begins with one ("up2").
            in_features: Names of the maps, fine to coarse, each half the size of the one before.
            arguments: Other arguments of Detectron2's `FPN`.

        Raises:
            InputError: A map doesn't exist.
        """
        names = list(bottom_up.output_shape())
        finer = _finer(names[0])
        if unknown := [name for name in in_features if name not in (finer, *names)]:
            raise InputError(
                f"in_features names {unknown}, expected names of {[finer, *names]}, the raw maps "
                "of a backbone without rearrangement"
            )
        if finer in in_features:
            bottom_up = FinerMap(bottom_up)
        super().__init__(bottom_up, in_features, **arguments)

    @property
    def size_divisibility(self) -> int:
        return max(super().size_divisibility, self.bottom_up.size_divisibility)


@BACKBONE_REGISTRY.register()
def build_metaprompt_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> MetaPromptFPN:
    """Build the counterpart of Detectron2's `build_resnet_fpn_backbone` from MODEL.FPN.

    With IN_FEATURES `up2` to `up6`, the features are p2 to p6 (strides 4 to 64), those of
    Detectron2's R-CNNs. If they end at `up5`, p6 is p5 subsampled.
    """
    bottom_up, coarsest = _build_bottom_up(cfg, input_shape)
    return _build_fpn(cfg, bottom_up, LastLevelMaxPool() if coarsest == "up5" else None)


@BACKBONE_REGISTRY.register()
def build_retinanet_metaprompt_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> MetaPromptFPN:
    """Build the counterpart of Detectron2's `build_retinanet_resnet_fpn_backbone` from MODEL.FPN.

    With IN_FEATURES `up3` to `up5`, the features are p3 to p7 (strides 8 to 128); two convolutions
    compute p6 and p7 from `up5`.
    """
    bottom_up, coarsest = _build_bottom_up(cfg, input_shape)
    channels = bottom_up.output_shape()[coarsest].channels
    top_block = LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS, in_feature=coarsest)
    return _build_fpn(cfg, bottom_up, top_block)


@BACKBONE_REGISTRY.register()
def build_fcos_metaprompt_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> MetaPromptFPN:
    """Build RetinaNet's features with p6 and p7 computed from p5 (arXiv 2006.09214, section 2.2).

    Raises:
        InputError: MODEL.FPN.IN_FEATURES doesn't end at `up5`.
    """
    bottom_up, coarsest = _build_bottom_up(cfg, input_shape)
    if coarsest != "up5":
        raise InputError(
            f"MODEL.FPN.IN_FEATURES is {cfg.MODEL.FPN.IN_FEATURES}, expected to end at 'up5', "
            "for p6 and p7 from p5"
        )
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    return _build_fpn(cfg, bottom_up, LastLevelP6P7(channels, channels, in_feature="p5"))


def _build_bottom_up(cfg: CfgNode, input_shape: ShapeSpec) -> tuple[MetaPromptBackbone, str]:
    """Build the backbone, and find its last feature that the FPN reads."""
    bottom_up = MetaPromptBackbone(cfg, input_shape)
    names, known = cfg.MODEL.FPN.IN_FEATURES, list(bottom_up.output_shape())
    if not names or names[-1] not in known:
        raise InputError(
            f"MODEL.FPN.IN_FEATURES is {names}, expected names of {known} (with "
            'MODEL.META_PROMPT.REARRANGE "none"), fine to coarse'
        )
    return bottom_up, names[-1]


def _build_fpn(cfg: CfgNode, bottom_up: Backbone, top_block: nn.Module | None) -> MetaPromptFPN:
    fpn = cfg.MODEL.FPN
    return MetaPromptFPN(
        bottom_up,
        fpn.IN_FEATURES,
        out_channels=fpn.OUT_CHANNELS,
        norm=fpn.NORM,
        top_block=top_block,
        fuse_type=fpn.FUSE_TYPE,
    )


def _finer(name: str) -> str:
    """`up3` -> `up2`."""
    prefix = name.rstrip("0123456789")
    return f"{prefix}{int(name.removeprefix(prefix)) - 1}"
