"""Heatmap heads: their registry, and `DeconvHeatmapHead`."""

import math
from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn
from torch.nn import functional as F

from ...codecs import NUM_KEYPOINTS
from ...layers import DeconvStack, heatmap_cross_entropy, weighted_heatmap_mse
from ...utils.errors import InputError, get_registered

__all__ = ["HEATMAP_HEADS_REGISTRY", "DeconvHeatmapHead", "build_heatmap_head"]

HEATMAP_HEADS_REGISTRY = Registry("HEATMAP_HEADS")
HEATMAP_HEADS_REGISTRY.__doc__ = """
Heads that turn a backbone's features into heatmaps of keypoints. Called as `head(cfg, input_shape)`;
their `forward(features, image_size, targets=None)` is that of `DeconvHeatmapHead`.
"""

_WIRINGS = ("deconv", "prompts")
_LOSSES = {"cross_entropy": heatmap_cross_entropy, "mse": weighted_heatmap_mse}


def build_heatmap_head(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """The head that MODEL.HEATMAP_HEAD.NAME names, for the features of `input_shape`."""
    name = cfg.MODEL.HEATMAP_HEAD.NAME
    make = get_registered(HEATMAP_HEADS_REGISTRY, name, "MODEL.HEATMAP_HEAD.NAME")
    return make(cfg, input_shape)


@HEATMAP_HEADS_REGISTRY.register()
class DeconvHeatmapHead(nn.Module):
    """One heatmap a keypoint from one map of the backbone, in one of two wirings.

    * `deconv`: transposed convolutions, each doubling the size, and a 1x1 convolution; ViTPose's
      classic head (method section 5.2), for a map of stride 16.
    * `prompts`: the prompts are shared out evenly among the keypoints, and each keypoint's heatmap is a
      weighted sum of its own prompts' channels: the re-arranged map itself is the heatmap but for
      its scale. For the finest map, of stride 4.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        in_stride: int,
        in_feature: str = "p4",
        wiring: str = "deconv",
        deconv_dims: Sequence[int] = (256, 256),
        deconv_kernels: Sequence[int] = (4, 4),
        stride: int = 4,
        loss: str = "mse",
        loss_weight: float = 1.0,
        heatmap_size: tuple[int, int] | None = None,
        sigma: float = 2.0,
    ):
        """
        Args:
            in_channels, in_stride: of the feature that is read.
            in_feature: its name.
            wiring: "deconv" or "prompts".
            deconv_dims, deconv_kernels: channels and kernel sizes of the transposed convolutions,
                of "deconv" alone.
            stride: pixels of the image for one of the heatmaps.
            loss: "mse", the heatmaps' mean squared error, or "cross_entropy" over the places of a
                keypoint, whose heatmaps are a softmax, with a maximum near 1 where it is sure.
            loss_weight: of it.
            heatmap_size: (h, w) of the heatmaps without what padded images add, over which the
                softmax goes; None: all.
            sigma: of the targets' Gaussians, for the softmax's scale.

        Raises:
            InputError: another wiring or loss, prompts that cannot be shared out, kernels that
                don't fit, or a stride that is not reached.
        """
        super().__init__()
        if wiring not in _WIRINGS:
            raise InputError(f"MODEL.HEATMAP_HEAD.WIRING is {wiring!r}, expected one of {_WIRINGS}")
        if loss not in _LOSSES:
            raise InputError(
                f"MODEL.HEATMAP_HEAD.LOSS is {loss!r}, expected one of {sorted(_LOSSES)}"
            )
        if wiring == "prompts":
            if in_channels % NUM_KEYPOINTS:
                raise InputError(
                    f"feature {in_feature!r} has {in_channels} channels, which {NUM_KEYPOINTS} "
                    "keypoints cannot share; MODEL.META_PROMPT.NUM_PROMPTS must be a multiple"
                )
            deconv_dims, deconv_kernels = (), ()
        reached = in_stride / 2 ** len(deconv_dims)
        if reached != stride:
            raise InputError(
                f"{len(deconv_dims)} doublings of {in_feature!r} (stride {in_stride}) give "
                f"heatmaps of stride {reached:g}, MODEL.HEATMAP_HEAD.STRIDE is {stride}"
            )
        self.in_feature = in_feature
        self.in_stride = in_stride
        self.stride = stride
        self.loss = loss
        self.loss_weight = loss_weight
        self.heatmap_size = heatmap_size
        self.sure = 2 * math.pi * sigma**2  # a Gaussian's sum over its maximum
        self.decoder = DeconvStack(
            in_channels, deconv_dims, None, kernel_size=tuple(deconv_kernels)
        )
        channels = deconv_dims[-1] if deconv_dims else in_channels
        groups = NUM_KEYPOINTS if wiring == "prompts" else 1
        self.predictor = nn.Conv2d(channels, NUM_KEYPOINTS, 1, groups=groups)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.HEATMAP_HEAD
        if head.IN_FEATURE not in input_shape:
            raise InputError(
                f"MODEL.HEATMAP_HEAD.IN_FEATURE is {head.IN_FEATURE!r}, expected one of the "
                f"backbone's features {list(input_shape)}"
            )
        return {
            "in_channels": input_shape[head.IN_FEATURE].channels,
            "in_stride": input_shape[head.IN_FEATURE].stride,
            "in_feature": head.IN_FEATURE,
            "wiring": head.WIRING,
            "deconv_dims": head.DECONV_DIMS,
            "deconv_kernels": head.DECONV_KERNELS,
            "stride": head.STRIDE,
            "loss": head.LOSS,
            "loss_weight": head.LOSS_WEIGHT,
            "heatmap_size": tuple(side // head.STRIDE for side in cfg.INPUT.PERSON_CROP.SIZE),
            "sigma": head.SIGMA,
        }

    def forward(
        self,
        features: Mapping[str, Tensor],
        image_size: tuple[int, int],
        targets: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """
        Args:
            features: by name, (N, C, h, w), of images that may be padded right and below.
            image_size: (H, W) of the images that the backbone saw.
            targets: heatmaps (N, J, h', w') and keypoint weights (N, J); in training.

        Returns:
            in training None and the loss `loss_heatmap`, on the targets' part of the map;
            in inference heatmaps (N, J, h', w'), of "mse" (N, J, H // stride, W // stride), and an
            empty dict.
        """
        heatmaps = self.layers(features, image_size)
        if not self.training:
            return self._probabilities(heatmaps) if self.loss == "cross_entropy" else heatmaps, {}
        truth, weights = targets
        height, width = truth.shape[-2:]
        loss = _LOSSES[self.loss](heatmaps[..., :height, :width], truth, weights)
        return None, {"loss_heatmap": loss * self.loss_weight}

    def _probabilities(self, heatmaps: Tensor) -> Tensor:
        height, width = self.heatmap_size or heatmaps.shape[-2:]
        heatmaps = heatmaps[..., :height, :width]
        return heatmaps.flatten(2).softmax(dim=2).view_as(heatmaps) * self.sure

    def layers(self, features: Mapping[str, Tensor], image_size: tuple[int, int]) -> Tensor:
        """Heatmaps (N, J, H // stride, W // stride), float32 under autocast too."""
        feature = features[self.in_feature]
        # On images that are no multiple of its coarsest stride, the UNet's maps are larger.
        size = [-(-side // self.in_stride) for side in image_size]
        if list(feature.shape[-2:]) != size:
            feature = F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
        heatmaps = self.predictor(self.decoder(feature))
        height, width = (side // self.stride for side in image_size)
        return heatmaps[..., :height, :width].to(torch.promote_types(heatmaps.dtype, torch.float32))
