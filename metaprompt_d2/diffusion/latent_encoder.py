"""The frozen VAE encoder of Stable Diffusion: image in, mean of the latent posterior out."""

from collections.abc import Sequence

import torch
from diffusers.models.autoencoders.vae import Encoder
from torch import Tensor, nn

from ..utils.errors import InputError


class LatentEncoder(nn.Module):
    """diffusers' VAE encoder and `quant_conv`, without the decoder, always frozen.

    It stays in eval mode and runs without gradients even if the model around it is trained. The
    latent is the posterior mean and is *not* multiplied by Stable Diffusion's 0.18215, as in the
    official code (docs/method.md#vae-encoder).
    """

    def __init__(
        self,
        *,
        block_out_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
    ):
        """Build the encoder with random weights.

        Args:
            block_out_channels: Widths of the levels. Every level but the last halves the size.
            layers_per_block: Residual blocks per level.
            latent_channels: Channels of the latent.
            norm_num_groups: Groups of every group norm, a divisor of every width.
        """
        super().__init__()
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
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "LatentEncoder":
        """Stay in eval mode: the encoder is a fixed function."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Encode images.

        Args:
            images: RGB images (N, 3, H, W) in [-1, 1], with H and W at least `stride`.

        Returns:
            The unscaled posterior mean (N, latent_channels, H // stride, W // stride).

        Raises:
            InputError: The images are smaller than one latent pixel.
        """
        if min(images.shape[-2:]) < self.stride:
            raise InputError(
                f"image of {images.shape[-2]}x{images.shape[-1]} pixels is smaller than one "
                f"latent pixel ({self.stride}x{self.stride})"
            )
        mean, _ = self.quant_conv(self.encoder(images)).chunk(2, dim=1)
        return mean
