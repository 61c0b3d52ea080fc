"""The VAE, the UNet and the noise schedule: Stable Diffusion 1.x's, with narrow layers."""

import math

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

VAE_WIDTHS = (16, 32, 48, 64)
VAE_NORM_GROUPS = 8
UNET_WIDTHS = (48, 64, 96, 96)
UNET_NORM_GROUPS = 16
LATENT_CHANNELS = 8
LATENT_STRIDE = 8
SIZE_MULTIPLE = 64  # the VAE divides the image size by 8, the UNet the latent size by 8 again
CONTEXT_SHAPE = (32, 64)  # tokens x channels


def build_vae(height: int, width: int) -> AutoencoderKL:
    """Stable Diffusion's autoencoder with narrow layers, for images in [-1, 1]."""
    levels = len(VAE_WIDTHS)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=VAE_WIDTHS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=VAE_NORM_GROUPS,
        sample_size=max(height, width),
        scaling_factor=1.0,
    )


def build_unet(height: int, width: int) -> UNet2DConditionModel:
    """Stable Diffusion 1.x's UNet with narrow layers, for latents of images of this size."""
    return UNet2DConditionModel(
        sample_size=(height // LATENT_STRIDE, width // LATENT_STRIDE),
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=UNET_WIDTHS,
        layers_per_block=1,
        cross_attention_dim=CONTEXT_SHAPE[1],
        attention_head_dim=4,
        norm_num_groups=UNET_NORM_GROUPS,
    )


def build_scheduler() -> DDPMScheduler:
    """Stable Diffusion 1.x's noise schedule."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
    )


@torch.no_grad()
def fold_scale(vae: AutoencoderKL, scale: float) -> None:
    """Multiply the latents by a scale inside the VAE without changing its reconstructions.

    The posterior's mean is multiplied by `scale` and its log-variance raised by 2 log(scale) in
    quant_conv; post_quant_conv divides by `scale` again.
    """
    channels = vae.config.latent_channels
    vae.quant_conv.weight[:channels] *= scale
    vae.quant_conv.bias[:channels] *= scale
    vae.quant_conv.bias[channels:] += 2 * math.log(scale)
    vae.post_quant_conv.weight /= scale
