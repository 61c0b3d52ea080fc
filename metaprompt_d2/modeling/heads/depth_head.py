"""`DeconvDepthHead`: the depth head of the official recipe."""

from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...layers import DeconvStack, init_normal, resize, silog_loss
from ...utils.errors import InputError
from .build import DEPTH_HEADS_REGISTRY, find_feature


@DEPTH_HEADS_REGISTRY.register()
class DeconvDepthHead(nn.Module):
    """Depth from one map by transposed convolutions, each of which doubles its size.

    A sigmoid gives depth as a share of `max_depth`. The map is first resized to the image's size
    divided by the doublings' factor, so that the result has the image's size, whatever size the
    backbone saw (docs/method.md#depth-decoder).
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
            in_channels, in_feature: Channels and name of the input feature.
            max_depth: Largest depth, in meters.
            deconv_dims, deconv_kernels: Channels and kernel sizes of the transposed convolutions.
            conv_dim: Channels of the convolutions after them.
            loss_weight: Weight of the SILog loss.

        Raises:
            InputError: `max_depth` isn't positive, or the kernels don't fit.
        """
        super().__init__()
        if max_depth <= 0:
            raise InputError(f"max_depth is {max_depth}, expected more than 0")
        self.in_feature = in_feature
        self.max_depth = max_depth
        self.loss_weight = loss_weight
        self.upscale = 2 ** len(deconv_dims)
        self.decoder = DeconvStack(in_channels, deconv_dims, conv_dim, kernel_size=deconv_kernels)
        self.predictor = nn.Sequential(
            nn.Conv2d(conv_dim, conv_dim, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(conv_dim, 1, 3, padding=1),
        )
        init_normal(self, std=0.001)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.DEPTH_HEAD
        feature = find_feature(input_shape, head.IN_FEATURE, "MODEL.DEPTH_HEAD.IN_FEATURE")
        return {
            "in_channels": feature.channels,
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
        """Predict depth, or compute its loss in training.

        Args:
            features: Features (N, C, h, w) by name.
            image_size: Size (H, W) of the images before any resizing for the backbone.
            targets: Depth (N, H, W) in meters, 0 = no ground truth; in training.

        Returns:
            In training None and the loss `loss_silog`. In inference depth (N, 1, H, W) in meters
            and an empty dict.
        """
        depth = resize(self.layers(features, image_size), image_size)
        if not self.training:
            return depth, {}
        assert targets is not None
        return None, {"loss_silog": silog_loss(depth[:, 0], targets) * self.loss_weight}

    def layers(self, features: Mapping[str, Tensor], image_size: tuple[int, int]) -> Tensor:
        """Predict depth (N, 1, h, w) at the largest size up to the image's that doublings reach."""
        size = [max(side // self.upscale, 1) for side in image_size]
        logits = self.predictor(self.decoder(resize(features[self.in_feature], size)))
        # The sigmoid needs float32 under autocast.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits.sigmoid() * self.max_depth
