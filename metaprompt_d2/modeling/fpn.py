"""Detectron2's FPN on the UNet's raw maps, for Detectron2's detectors and segmentors."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import Tensor, nn

from ..utils.errors import InputError
from .backbone import MetaPromptBackbone

__all__ = [
    "FinerMap",
    "MetaPromptFPN",
    "build_fcos_metaprompt_fpn_backbone",
    "build_metaprompt_fpn_backbone",
    "build_retinanet_metaprompt_fpn_backbone",
]


class FinerMap(Backbone):
    """A backbone with one more map, twice as fine as its finest.

    Detectron2's R-CNNs want features of stride 4, and the UNet's finest map has stride 8. As in
    ViTDet (arXiv 2203.16527, `SimpleFeaturePyramid`), a transposed convolution doubles it.
    """

    def __init__(self, backbone: Backbone):
        """
        Args:
            backbone: its features are named with log2 of their strides, as "up3".
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
        """(N, 3, H, W) -> the features of `output_shape()`."""
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
    """Detectron2's FPN, which also asks for the padding that the network below it needs.

    The UNet's maps have their strides on multiples of 64 pixels only, even where the FPN reads
    none of stride 64.
    """

    def __init__(self, bottom_up: Backbone, in_features: Sequence[str], **arguments):
        """
        Args:
            bottom_up: `MetaPromptBackbone` without re-arrangement. A finer map is added where
                `in_features` begins with one ("up2").
            in_features: fine to coarse, each half the size of the one before.
            arguments: the others of Detectron2's `FPN`.

        Raises:
            InputError: a feature that there is not.
        """
        names = list(bottom_up.output_shape())
        finer = _finer(names[0])
        unknown = [name for name in in_features if name not in (finer, *names)]
        if unknown:
            raise InputError(
                f"MODEL.FPN.IN_FEATURES names {unknown}, expected of {[finer, *names]} (with "
                'MODEL.META_PROMPT.REARRANGE "none")'
            )
        if finer in in_features:
            bottom_up = FinerMap(bottom_up)
        super().__init__(bottom_up, in_features, **arguments)

    @property
    def size_divisibility(self) -> int:
        return max(super().size_divisibility, self.bottom_up.size_divisibility)


@BACKBONE_REGISTRY.register()
def build_metaprompt_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> MetaPromptFPN:
    """The counterpart of Detectron2's `build_resnet_fpn_backbone`.

    Args:
        cfg: MODEL.FPN. With IN_FEATURES `up2` to `up6`, the features are p2 to p6 (strides 4 to
            64), those of Detectron2's R-CNNs. Where they end at `up5`, p6 is p5 subsampled.
        input_shape: of the images.
    """
    bottom_up = MetaPromptBackbone(cfg, input_shape)
    top_block = LastLevelMaxPool() if _coarsest(cfg, bottom_up) == "up5" else None
    return _fpn(cfg, bottom_up, top_block)


@BACKBONE_REGISTRY.register()
def build_retinanet_metaprompt_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> MetaPromptFPN:
    """The counterpart of Detectron2's `build_retinanet_resnet_fpn_backbone`.

    Args:
        cfg: MODEL.FPN. With IN_FEATURES `up3` to `up5`, the features are p3 to p7 (strides 8 to
            128), of which two convolutions make p6 and p7 from `up5`.
        input_shape: of the images.
    """
    bottom_up = MetaPromptBackbone(cfg, input_shape)
    coarsest = _coarsest(cfg, bottom_up)
    channels = bottom_up.output_shape()[coarsest].channels
    top_block = LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS, in_feature=coarsest)
    return _fpn(cfg, bottom_up, top_block)


@BACKBONE_REGISTRY.register()
def build_fcos_metaprompt_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> MetaPromptFPN:
    """RetinaNet's features, but p6 and p7 are made from p5 (arXiv 2006.09214, section 2.2).

    Args:
        cfg: MODEL.FPN with IN_FEATURES `up3` to `up5`.
        input_shape: of the images.

    Raises:
        InputError: features that do not end at `up5`.
    """
    bottom_up = MetaPromptBackbone(cfg, input_shape)
    if _coarsest(cfg, bottom_up) != "up5":
        raise InputError(
            f"MODEL.FPN.IN_FEATURES is {cfg.MODEL.FPN.IN_FEATURES}, expected to end at 'up5', "
            "for p6 and p7 from p5"
        )
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    return _fpn(cfg, bottom_up, LastLevelP6P7(channels, channels, in_feature="p5"))


def _coarsest(cfg: CfgNode, bottom_up: MetaPromptBackbone) -> str:
    """The last of MODEL.FPN.IN_FEATURES, which further levels are made from."""
    names, known = cfg.MODEL.FPN.IN_FEATURES, list(bottom_up.output_shape())
    if not names or names[-1] not in known:
        raise InputError(
            f"MODEL.FPN.IN_FEATURES is {names}, expected names of {known} (with "
            'MODEL.META_PROMPT.REARRANGE "none"), fine to coarse'
        )
    return names[-1]


def _fpn(cfg: CfgNode, bottom_up: MetaPromptBackbone, top_block: nn.Module | None) -> MetaPromptFPN:
    return MetaPromptFPN(
        bottom_up,
        cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def _finer(name: str) -> str:
    """`up3` -> `up2`."""
    prefix = name.rstrip("0123456789")
    return f"{prefix}{int(name.removeprefix(prefix)) - 1}"
