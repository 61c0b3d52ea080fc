"""The frozen VAE encoder of Stable Diffusion: image in, mean of the latent posterior out."""

from collections.abc import Sequence

import torch
from diffusers.models.autoencoders.vae import Encoder
from torch import Tensor, nn

from ..utils.errors import InputError
from .sizes import check_group_norm
from .speedups.residual_block import InPlaceResidualBlock

__all__ = ["LatentEncoder"]


class LatentEncoder(nn.Module):
    """diffusers' VAE encoder and `quant_conv`, without the decoder, frozen for good.

    It stays in eval mode and runs without gradients whatever is asked of the model around it.
    The latent is the posterior mean and is *not* multiplied by Stable Diffusion's 0.18215, as in
    the official MetaPrompts code (arXiv 2312.14733; `method: x.mode()` of the first stage).
    """

    def __init__(
        self,
        *,
        block_out_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
    ):
        """
        Args:
            block_out_channels: widths of the levels; every level but the last halves the size.
            layers_per_block: residual blocks a level.
            latent_channels: channels of the latent.
            norm_num_groups: groups of every group norm; divides every width.

        Raises:
            InputError: a width that `norm_num_groups` doesn't divide.
        """
        super().__init__()
        check_group_norm("MODEL.DIFFUSION.VAE", block_out_channels, norm_num_groups)
        self.latent_channels = latent_channels
        self.stride = 2 ** (len(block_out_channels) - 1)
        self.encoder = Encoder(
            in_channels=3,
            out_channels=latent_channels,
            down_block_types=("DownEncoderBlock2D",) * len(block_out_channels),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
        )
        for block in (*self.encoder.down_blocks, self.encoder.mid_block):
            block.resnets = nn.ModuleList(map(InPlaceResidualBlock, block.resnets))
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "LatentEncoder":
        """Stay in eval mode: the encoder is a fixed function."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """
        Args:
            images: (N, 3, H, W), RGB in [-1, 1], any H, W >= `stride`.

        Returns:
            (N, latent_channels, H // stride, W // stride), the posterior mean, unscaled, in the
            weights' floating point type.

        Raises:
            InputError: an image smaller than one latent pixel.
        """
        if min(images.shape[-2:]) < self.stride:
            raise InputError(
                f"image of {images.shape[-2]}x{images.shape[-1]} pixels is smaller than one "
                f"latent pixel ({self.stride}x{self.stride})"
            )
        moments = self.quant_conv(self.encoder(images.to(self.quant_conv.weight.dtype)))
        mean, _ = moments.chunk(2, dim=1)
        return mean
