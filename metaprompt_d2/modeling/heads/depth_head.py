"""Depth heads: their registry, and `DeconvDepthHead` of the official recipe."""

from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers import DeconvStack, silog_loss
from ...utils.errors import InputError, get_registered

__all__ = ["DEPTH_HEADS_REGISTRY", "DeconvDepthHead", "build_depth_head"]

DEPTH_HEADS_REGISTRY = Registry("DEPTH_HEADS")
DEPTH_HEADS_REGISTRY.__doc__ = """
Heads that turn a backbone's features into depth. Called as `head(cfg, input_shape)`; their
`forward(features, image_size, targets=None)` is that of `DeconvDepthHead`.
"""


def build_depth_head(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """The head that MODEL.DEPTH_HEAD.NAME names, for the features of `input_shape`."""
    name = cfg.MODEL.DEPTH_HEAD.NAME
    make = get_registered(DEPTH_HEADS_REGISTRY, name, "MODEL.DEPTH_HEAD.NAME")
    return make(cfg, input_shape)


@DEPTH_HEADS_REGISTRY.register()
class DeconvDepthHead(nn.Module):
    """One map, doubled in size by transposed convolutions; a sigmoid gives the share of max_depth.

    The map is first brought to the image's size divided by what the doublings multiply, so that
    the result has the image's size whatever the backbone saw (method section 2.2).
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        in_feature: str = "p3",
        max_depth: float = 10.0,
        deconv_dims: Sequence[int] = (32, 32, 32),
        deconv_kernels: Sequence[int] = (2, 2, 2),
        conv_dim: int = 192,
        loss_weight: float = 1.0,
    ):
        """
        Args:
            in_channels: of the feature that is read.
            in_feature: its name.
            max_depth: metres that the sigmoid's 1 stands for.
            deconv_dims, deconv_kernels: channels and kernel sizes of the transposed convolutions.
            conv_dim: channels of the convolutions behind them.
            loss_weight: of the SILog loss.

        Raises:
            InputError: a maximum depth that is not positive, or kernels that don't fit.
        """
        super().__init__()
        if max_depth <= 0:
            raise InputError(f"MODEL.DEPTH_HEAD.MAX_DEPTH is {max_depth}, expected more than 0")
        self.in_feature = in_feature
        self.max_depth = max_depth
        self.loss_weight = loss_weight
        self.upscale = 2 ** len(deconv_dims)
        self.decoder = DeconvStack(
            in_channels, deconv_dims, conv_dim, kernel_size=tuple(deconv_kernels)
        )
        self.predictor = nn.Sequential(
            nn.Conv2d(conv_dim, conv_dim, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(conv_dim, 1, 3, padding=1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.DEPTH_HEAD
        if head.IN_FEATURE not in input_shape:
            raise InputError(
                f"MODEL.DEPTH_HEAD.IN_FEATURE is {head.IN_FEATURE!r}, expected one of the "
                f"backbone's features {list(input_shape)}"
            )
        return {
            "in_channels": input_shape[head.IN_FEATURE].channels,
            "in_feature": head.IN_FEATURE,
            "max_depth": head.MAX_DEPTH,
            "deconv_dims": head.DECONV_DIMS,
            "deconv_kernels": head.DECONV_KERNELS,
            "conv_dim": head.CONVS_DIM,
            "loss_weight": head.LOSS_WEIGHT,
        }

    def forward(
        self,
        features: Mapping[str, Tensor],
        image_size: tuple[int, int],
        targets: Tensor | None = None,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """
        Args:
            features: by name, (N, C, h, w).
            image_size: (H, W) of the images before any resizing for the backbone.
            targets: (N, H, W) metres, 0 = no ground truth; in training.

        Returns:
            in training None and the loss `loss_silog`;
            in inference depth (N, 1, H, W) in metres and an empty dict.
        """
        depth = self.layers(features, image_size)
        if depth.shape[-2:] != tuple(image_size):
            depth = _resize(depth, image_size)
        if not self.training:
            return depth, {}
        return None, {"loss_silog": silog_loss(depth[:, 0], targets) * self.loss_weight}

    def layers(self, features: Mapping[str, Tensor], image_size: tuple[int, int]) -> Tensor:
        """Depth (N, 1, h, w) at the nearest smaller size that the doublings reach."""
        logits = self.predictor(self.decoder(self.resized_feature(features, image_size)))
        # The sigmoid wants float32 under autocast.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits.sigmoid() * self.max_depth

    def resized_feature(
        self, features: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> Tensor:
        """The decoder's input, (N, C, H // upscale, W // upscale)."""
        feature = features[self.in_feature]
        return _resize(feature, [max(side // self.upscale, 1) for side in image_size])


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
