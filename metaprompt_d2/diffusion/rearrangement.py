"""Features for heads: the UNet's decoder maps, rearranged by the prompts."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import DeconvStack
from .meta_prompts import respond


def _conv_norm_relu(in_channels: int, out_channels: int, norm_num_groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.GroupNorm(norm_num_groups, out_channels),
        nn.ReLU(inplace=True),
    )


class PyramidRearrangement(nn.Module):
    """The segmentation model's features: a map for every level.

    Each decoder map is doubled in size, projected to the prompts' width and rearranged by itself
    (docs/method.md#segmentation-model).
    """

    def __init__(
        self, *, in_channels: Sequence[int], prompt_dim: int = 768, norm_num_groups: int = 16
    ):
        """Build a projection for every level.

        Args:
            in_channels: Channels of the decoder maps, fine to coarse.
            prompt_dim: Width of the prompts.
            norm_num_groups: Groups of the group norms, a divisor of `prompt_dim`.
        """
        super().__init__()
        self.projections = nn.ModuleList(
            _conv_norm_relu(channels, prompt_dim, norm_num_groups) for channels in in_channels
        )

    def keep(self, levels: Collection[int]) -> None:
        """Drop the other levels' projections, since DDP rejects unused parameters."""
        for level in range(len(self.projections)):
            if level not in levels:
                self.projections[level] = nn.Identity()

    def forward(self, features: list[Tensor], prompts: Tensor) -> list[Tensor | None]:
        """Rearrange every level.

        Args:
            features: Decoder maps (N, in_channels[i], h_i, w_i), fine to coarse. The finest levels'
                may be missing.
            prompts: Prompts (num_prompts, prompt_dim).

        Returns:
            One map (N, num_prompts, 2 h_i, 2 w_i) per decoder map, None for dropped levels.
        """
        outputs: list[Tensor | None] = []
        projections = list(self.projections)[-len(features) :]
        for feature, projection in zip(features, projections, strict=True):
            if isinstance(projection, nn.Identity):
                outputs.append(None)
                continue
            feature = F.interpolate(feature, scale_factor=2, mode="bilinear", align_corners=False)
            outputs.append(respond(projection(feature), prompts))
        return outputs


class FusedRearrangement(nn.Module):
    """The depth model's features: a single map.

    All decoder maps are brought to the size of the finest one, fused, and rearranged once
    (docs/method.md#depth-encoder).
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        prompt_dim: int = 768,
        norm_num_groups: int = 16,
        deconv_channels: int = 32,
    ):
        """Build a branch for every level and the fusing convolution.

        Args:
            in_channels: Channels of the decoder maps, fine to coarse.
            prompt_dim: Width of the prompts.
            norm_num_groups: Groups of the group norms, a divisor of `in_channels[0]` and
                `prompt_dim`.
            deconv_channels: Channels between the transposed convolutions.
        """
        super().__init__()
        self.branches = nn.ModuleList(
            [_conv_norm_relu(in_channels[0], in_channels[0], norm_num_groups)]
        )
        for doublings, channels in enumerate(in_channels[1:], start=1):
            hidden = [deconv_channels] * doublings
            self.branches.append(DeconvStack(channels, hidden, channels, kernel_size=4))
        self.fuse = _conv_norm_relu(sum(in_channels), prompt_dim, norm_num_groups)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, features: list[Tensor], prompts: Tensor) -> list[Tensor]:
        """Fuse and rearrange.

        Args:
            features: Decoder maps, fine to coarse, each half the size of the one before.
            prompts: Prompts (num_prompts, prompt_dim).

        Returns:
            One map (N, num_prompts, h, w) of the finest map's size.
        """
        maps = [branch(map_) for branch, map_ in zip(self.branches, features, strict=True)]
        return [respond(self.fuse(torch.cat(maps, dim=1)), prompts)]
