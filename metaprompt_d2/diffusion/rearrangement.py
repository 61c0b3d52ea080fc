"""From the UNet's decoder maps to the features that heads read, re-arranged by the prompts."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import DeconvStack
from ..utils.errors import InputError
from .meta_prompts import respond

__all__ = ["FusedRearrangement", "PyramidRearrangement"]


def _conv_norm_relu(in_channels: int, out_channels: int, norm_num_groups: int) -> nn.Sequential:
    if out_channels % norm_num_groups:
        raise InputError(
            f"{out_channels} channels are no multiple of the re-arrangement's {norm_num_groups} "
            "groups (MODEL.META_PROMPT.NORM_NUM_GROUPS)"
        )
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.GroupNorm(norm_num_groups, out_channels),
        nn.ReLU(inplace=True),
    )


class PyramidRearrangement(nn.Module):
    """Each decoder map for itself: doubled in size, projected to the prompts' width, re-arranged.

    The segmentation model's features (method section 3.1).
    """

    def __init__(
        self, *, in_channels: Sequence[int], prompt_dim: int = 768, norm_num_groups: int = 16
    ):
        """
        Args:
            in_channels: channels of the decoder maps, fine to coarse.
            prompt_dim: width of the prompts.
            norm_num_groups: groups of the group norms; divides `prompt_dim`.
        """
        super().__init__()
        self.projections = nn.ModuleList(
            _conv_norm_relu(channels, prompt_dim, norm_num_groups) for channels in in_channels
        )

    def keep(self, levels: Collection[int]) -> None:
        """Drop the other levels' projections: DDP refuses parameters that nothing reads."""
        for level in range(len(self.projections)):
            if level not in levels:
                self.projections[level] = nn.Identity()

    def forward(self, features: list[Tensor], prompts: Tensor) -> list[Tensor | None]:
        """
        Args:
            features: decoder maps, fine to coarse, (N, in_channels[i], h_i, w_i).
            prompts: (num_prompts, prompt_dim).

        Returns:
            one map a level, (N, num_prompts, 2 h_i, 2 w_i); None for levels that were dropped.
        """
        outputs: list[Tensor | None] = []
        for feature, projection in zip(features, self.projections, strict=True):
            if isinstance(projection, nn.Identity):
                outputs.append(None)
                continue
            feature = F.interpolate(feature, scale_factor=2, mode="bilinear", align_corners=False)
            outputs.append(respond(projection(feature), prompts))
        return outputs


class FusedRearrangement(nn.Module):
    """All decoder maps brought to the finest one's size, fused, and re-arranged once.

    The depth model's features (method section 2.1).
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        prompt_dim: int = 768,
        norm_num_groups: int = 16,
        deconv_channels: int = 32,
    ):
        """
        Args:
            in_channels: channels of the decoder maps, fine to coarse.
            prompt_dim: width of the prompts.
            norm_num_groups: groups of the group norms; divides `in_channels[0]` and `prompt_dim`.
            deconv_channels: channels within the transposed convolutions.
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
                nn.init.zeros_(module.bias)

    def forward(self, features: list[Tensor], prompts: Tensor) -> list[Tensor]:
        """
        Args:
            features: decoder maps, fine to coarse, each half the size of the one before.
            prompts: (num_prompts, prompt_dim).

        Returns:
            one map, (N, num_prompts, h, w), of the finest map's size.
        """
        branches = [
            branch(feature) for branch, feature in zip(self.branches, features, strict=True)
        ]
        return [respond(self.fuse(torch.cat(branches, dim=1)), prompts)]
