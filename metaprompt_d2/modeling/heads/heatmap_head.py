"""`DeconvHeatmapHead`: keypoint heatmaps by transposed convolutions or from prompts."""

import math
from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...data import build_heatmap_codec
from ...layers import DeconvStack, heatmap_cross_entropy, init_normal, resize, weighted_heatmap_mse
from ...utils.errors import InputError
from .build import HEATMAP_HEADS_REGISTRY, find_feature

_LOSSES = {"cross_entropy": heatmap_cross_entropy, "mse": weighted_heatmap_mse}


@HEATMAP_HEADS_REGISTRY.register()
class DeconvHeatmapHead(nn.Module):
    """One heatmap for each keypoint, from one map of the backbone, in one of two wirings.

    * `deconv`: transposed convolutions, each of which doubles the size, and a 1x1 convolution.
      This is ViTPose's classic head (docs/method.md#vitpose-recipe); it reads a map of stride 16.
    * `prompts`: each keypoint has the same number of prompts of its own, in the order of the
      keypoints, and its heatmap is a weighted sum of their channels of the rearranged map. Prompts
      that are left over, the last ones, belong to no keypoint: the head doesn't read them, but the
      UNet attends to them. It reads the finest map, of stride 4.
    """

    keypoint_weights: Tensor

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        in_stride: int,
        num_keypoints: int,
        in_feature: str = "p4",
        wiring: str = "deconv",
        deconv_dims: Sequence[int] = (256, 256),
        deconv_kernels: Sequence[int] = (4, 4),
        stride: int = 4,
        loss: str = "mse",
        loss_weight: float = 1.0,
        keypoint_weights: Sequence[float] = (),
        heatmap_size: tuple[int, int] | None = None,
        sigma: float = 2.0,
    ):
        """
        Args:
            in_channels, in_stride, in_feature: Channels, stride and name of the input feature.
            num_keypoints: Number J of keypoints.
            wiring: "deconv" or "prompts".
            deconv_dims, deconv_kernels: Channels and kernel sizes of the transposed convolutions,
                for "deconv" only.
            stride: Stride of the heatmaps.
            loss: "mse", the mean squared error of the heatmaps, or "cross_entropy", over the
                positions of a keypoint. The heatmaps are then a softmax, scaled so that a confident
                one has a maximum near 1.
            loss_weight: Weight of the loss.
            keypoint_weights: Weight of each keypoint in the loss, 0 or more; () weighs all the
                same. "mse" is a mean over all keypoints, so that its size follows the weights;
                "cross_entropy" is a mean weighted by them, so that only their ratios matter.
            heatmap_size: Size (h, w) of the heatmaps without the images' padding, which the softmax
                leaves out; None for all of it.
            sigma: Standard deviation of the targets' Gaussians, for the scale of the softmax.

        Raises:
            InputError: There are fewer prompts than keypoints, the kernels don't fit, the stride
                isn't reached, or the keypoints' weights aren't one number for each.
        """
        super().__init__()
        if wiring == "prompts":
            deconv_dims = deconv_kernels = ()
            if in_channels < num_keypoints:
                raise InputError(
                    f"feature {in_feature!r} has {in_channels} channels, one for each prompt, but "
                    f"{num_keypoints} keypoints need at least one prompt each"
                )
        _check_weights(keypoint_weights, num_keypoints)
        reached = in_stride / 2 ** len(deconv_dims)
        if reached != stride:
            raise InputError(
                f"{len(deconv_dims)} doublings of {in_feature!r} (stride {in_stride}) give "
                f"heatmaps of stride {reached:g}, expected {stride}"
            )
        self.in_feature = in_feature
        self.in_stride = in_stride
        self.stride = stride
        self.compute_loss = _LOSSES[loss]
        self.is_softmax = loss == "cross_entropy"
        self.loss_weight = loss_weight
        self.heatmap_size = heatmap_size
        self.softmax_scale = 2 * math.pi * sigma**2  # a Gaussian's sum over its maximum
        # With "prompts", each keypoint reads channels of its own.
        groups = num_keypoints if wiring == "prompts" else 1
        self.num_unread = in_channels % groups
        in_channels -= self.num_unread
        weights = torch.tensor(keypoint_weights or [1] * num_keypoints, dtype=torch.float32)
        self.register_buffer("keypoint_weights", weights, persistent=False)
        self.decoder = DeconvStack(in_channels, deconv_dims, None, kernel_size=deconv_kernels)
        channels = [in_channels, *deconv_dims][-1]
        self.predictor = nn.Conv2d(channels, num_keypoints, 1, groups=groups)
        init_normal(self, std=0.001)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.HEATMAP_HEAD
        feature = find_feature(input_shape, head.IN_FEATURE, "MODEL.HEATMAP_HEAD.IN_FEATURE")
        return {
            "in_channels": feature.channels,
            "in_stride": feature.stride,
            "in_feature": head.IN_FEATURE,
            "num_keypoints": cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS,
            "wiring": head.WIRING,
            "deconv_dims": head.DECONV_DIMS,
            "deconv_kernels": head.DECONV_KERNELS,
            "stride": head.STRIDE,
            "loss": head.LOSS,
            "loss_weight": head.LOSS_WEIGHT,
            "keypoint_weights": head.KEYPOINT_WEIGHTS,
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
        if self.training:
            assert targets is not None
            truth, weights = targets
            height, width = truth.shape[-2:]
            weights = weights * self.keypoint_weights
            loss = self.compute_loss(heatmaps[..., :height, :width], truth, weights)
            return None, {"loss_heatmap": loss * self.loss_weight}
        if self.is_softmax:
            height, width = self.heatmap_size or heatmaps.shape[-2:]
            heatmaps = heatmaps[..., :height, :width]
            shares = heatmaps.flatten(2).softmax(dim=2).view_as(heatmaps)
            heatmaps = shares * self.softmax_scale
        return heatmaps, {}

    def layers(self, features: Mapping[str, Tensor], image_size: tuple[int, int]) -> Tensor:
        """Predict heatmaps (N, J, H // stride, W // stride), in float32 under autocast too."""
        feature = features[self.in_feature]
        if self.num_unread:
            feature = feature[:, : -self.num_unread]
        # The UNet's maps are larger for images that aren't multiples of its coarsest stride.
        feature = resize(feature, [-(-side // self.in_stride) for side in image_size])
        heatmaps = self.predictor(self.decoder(feature))
        height, width = (side // self.stride for side in image_size)
        return heatmaps[..., :height, :width].to(torch.promote_types(heatmaps.dtype, torch.float32))


def _check_weights(weights: Sequence[float], number: int) -> None:
    if weights and len(weights) != number:
        raise InputError(f"keypoint_weights holds {len(weights)} numbers for {number} keypoints")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise InputError(f"keypoint_weights is {weights}, expected finite numbers of at least 0")
    if weights and not any(weights):
        raise InputError("keypoint_weights are all 0, expected one above 0")
