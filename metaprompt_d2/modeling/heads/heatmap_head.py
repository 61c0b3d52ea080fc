"""The registry of heatmap heads, and `DeconvHeatmapHead`."""

import math
from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from ...codecs import NUM_KEYPOINTS
from ...data import build_heatmap_codec
from ...layers import DeconvStack, heatmap_cross_entropy, resize, weighted_heatmap_mse
from ...utils.errors import InputError, get_registered

HEATMAP_HEADS_REGISTRY = Registry("HEATMAP_HEADS")
HEATMAP_HEADS_REGISTRY.__doc__ = """
Heads that predict keypoint heatmaps from a backbone's features. A head is built as
`head(cfg, input_shape)` and has the `forward(features, image_size, targets=None)` of
`DeconvHeatmapHead`.
"""

_WIRINGS = ("deconv", "prompts")
_LOSSES = {"cross_entropy": heatmap_cross_entropy, "mse": weighted_heatmap_mse}


def build_heatmap_head(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """Build the head that MODEL.HEATMAP_HEAD.NAME names."""
    name = cfg.MODEL.HEATMAP_HEAD.NAME
    make = get_registered(HEATMAP_HEADS_REGISTRY, name, "MODEL.HEATMAP_HEAD.NAME")
    return make(cfg, input_shape)


@HEATMAP_HEADS_REGISTRY.register()
class DeconvHeatmapHead(nn.Module):
    """One heatmap for each keypoint, from one map of the backbone, in one of two wirings.

    * `deconv`: transposed convolutions, each of which doubles the size, and a 1x1 convolution.
      This is ViTPose's classic head; it reads a map of stride 16.
    * `prompts`: each keypoint has the same number of prompts of its own, and its heatmap is a
      weighted sum of their channels of the re-arranged map. It reads the finest map, of stride 4.
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
            in_channels, in_stride: Channels and stride of the input feature.
            in_feature: Name of the input feature.
            wiring: Wiring "deconv" or "prompts".
            deconv_dims, deconv_kernels: Channels and kernel sizes of the transposed convolutions,
                for "deconv" only.
            stride: Stride of the heatmaps.
            loss: Loss "mse", the mean squared error of the heatmaps, or "cross_entropy", over the
                positions of a keypoint. The heatmaps are then a softmax, scaled so that a confident
                one has a maximum near 1.
            loss_weight: Weight of the loss.
            heatmap_size: Size (h, w) of the heatmaps without the images' padding, which the softmax
                leaves out; None for all of it.
            sigma: Standard deviation of the targets' Gaussians, for the scale of the softmax.

        Raises:
            InputError: The wiring or the loss is unknown, the keypoints cannot share the prompts
                evenly, the kernels don't fit, or the stride isn't reached.
        """
        super().__init__()
        if wiring not in _WIRINGS:
            raise InputError(f"wiring is {wiring!r}, expected one of {_WIRINGS}")
        if loss not in _LOSSES:
            raise InputError(f"loss is {loss!r}, expected one of {sorted(_LOSSES)}")
        if wiring == "prompts":
            if in_channels % NUM_KEYPOINTS:
                raise InputError(
                    f"feature {in_feature!r} has {in_channels} channels, which {NUM_KEYPOINTS} "
                    "keypoints cannot share; the number of prompts must be a multiple"
                )
            deconv_dims, deconv_kernels = (), ()
        reached = in_stride / 2 ** len(deconv_dims)
        if reached != stride:
            raise InputError(
                f"{len(deconv_dims)} doublings of {in_feature!r} (stride {in_stride}) give "
                f"heatmaps of stride {reached:g}, expected {stride}"
            )
        self.in_feature = in_feature
        self.in_stride = in_stride
        self.stride = stride
        self.loss = loss
        self.loss_weight = loss_weight
        self.heatmap_size = heatmap_size
        self.softmax_scale = 2 * math.pi * sigma**2  # a Gaussian's sum over its maximum
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
            "heatmap_size": build_heatmap_codec(cfg).heatmap_size,
            "sigma": head.SIGMA,
        }

    def forward(
        self,
        features: Mapping[str, Tensor],
        image_size: tuple[int, int],
        targets: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Predict heatmaps, or compute their loss in training.

        Args:
            features: Features (N, C, h, w) by name. The images may be padded at the right and the
                bottom.
            image_size: Size (H, W) of the images that the backbone saw.
            targets: Heatmaps (N, J, h', w') and keypoint weights (N, J); in training.

        Returns:
            In training None and the loss `loss_heatmap`, without the padding. In inference
            heatmaps, (N, J, H // stride, W // stride) for the loss "mse" and (N, J, h', w') for
            "cross_entropy", and an empty dict.
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
        return heatmaps.flatten(2).softmax(dim=2).view_as(heatmaps) * self.softmax_scale

    def layers(self, features: Mapping[str, Tensor], image_size: tuple[int, int]) -> Tensor:
        """Predict heatmaps (N, J, H // stride, W // stride), in float32 under autocast too."""
        feature = features[self.in_feature]
        # The UNet's maps are larger for images that aren't multiples of its coarsest stride.
        feature = resize(feature, [-(-side // self.in_stride) for side in image_size])
        heatmaps = self.predictor(self.decoder(feature))
        height, width = (side // self.stride for side in image_size)
        return heatmaps[..., :height, :width].to(torch.promote_types(heatmaps.dtype, torch.float32))
