"""Tensors of the official checkpoints that the official code never reads."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .official_names import PREFIXES, UNET, VAE


def unused_tensors(task: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make the tensors that the official code has and never reads: zeros and the noise schedule.

    `state_dict` holds the other tensors, under the official names. Depth has no noise schedule.
    """
    unet, vae = PREFIXES[task] + UNET, PREFIXES[task] + VAE
    channels, latent_channels = state_dict[f"{unet}input_blocks.0.0.weight"].shape[:2]
    shapes = {
        f"{vae}post_quant_conv.weight": (latent_channels, latent_channels, 1, 1),
        f"{vae}post_quant_conv.bias": (latent_channels,),
        f"{unet}out.0.weight": (channels,),
        f"{unet}out.0.bias": (channels,),
        f"{unet}out.2.weight": (latent_channels, channels, 3, 3),
        f"{unet}out.2.bias": (latent_channels,),
    }
    schedule = {}
    if task == "sem_seg":
        schedule = _noise_schedule()
        width = 4 * channels
        shapes |= {
            f"{unet}time_embed.0.weight": (width, channels),
            f"{unet}time_embed.0.bias": (width,),
            f"{unet}time_embed.2.weight": (width, width),
            f"{unet}time_embed.2.bias": (width,),
        }
    return schedule | {n: torch.zeros(s) for n, s in shapes.items() if n not in state_dict}


def _noise_schedule() -> dict[str, Tensor]:
    """Compute the buffers of Stable Diffusion 1.x's DDPM (Ho et al., arXiv 2006.11239), float32.

    diffusers' schedulers compute in float32, which gives other bits.
    """
    betas = torch.linspace(0.00085**0.5, 0.0120**0.5, 1000, dtype=torch.float64) ** 2
    alphas = 1 - betas
    kept = alphas.cumprod(0)
    kept_before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
    variance = betas * (1 - kept_before) / (1 - kept)
    schedule = {
        "betas": betas,
        "alphas_cumprod": kept,
        "alphas_cumprod_prev": kept_before,
        "sqrt_alphas_cumprod": kept.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - kept).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - kept).log(),
        "sqrt_recip_alphas_cumprod": (1 / kept).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / kept - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * kept_before.sqrt() / (1 - kept),
        "posterior_mean_coef2": (1 - kept_before) * alphas.sqrt() / (1 - kept),
    }
    schedule = {name: value.float() for name, value in schedule.items()}
    betas, variance = schedule["betas"], schedule["posterior_variance"]
    weights = betas**2 / (2 * variance * alphas.float() * (1 - schedule["alphas_cumprod"]))
    weights[0] = weights[1]
    schedule["lvlb_weights"] = weights
    return {f"sd_model.{name}": value for name, value in schedule.items()}
