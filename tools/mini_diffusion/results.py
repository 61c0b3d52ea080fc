"""Evaluate the trained model, draw samples, and save everything."""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from metaprompt_d2.utils.files import write_png

from .images import shrink, to_tensor
from .models import LATENT_CHANNELS, build_scheduler

EVALUATION_TIMESTEPS = range(50, 1000, 100)
DDIM_STEPS = 50
PICTURES = 8  # number of reconstructions and of samples in the picture
PICTURES_PER_ROW = 4


@torch.no_grad()
def evaluate(
    vae: AutoencoderKL, unet: UNet2DConditionModel, context: Tensor, images: np.ndarray, seed: int
) -> dict[str, float]:
    """Measure the model on whole, unaugmented images (N, 2H, 2W, 3).

    Returns:
        l1: Mean absolute error of the reconstructions, for images in [0, 1].
        psnr: Peak signal-to-noise ratio of the reconstructions in dB, averaged over the images.
        noise_mse: Mean squared error of the predicted noise over evenly spaced time steps.
        latent_std: Standard deviation of all latent values.
    """
    scheduler = build_scheduler()
    generator = torch.Generator().manual_seed(seed)
    timesteps = torch.tensor(EVALUATION_TIMESTEPS)
    tokens = context.expand(len(timesteps), -1, -1)
    l1, psnr, noise_mse, latents = [], [], [], []
    for image in images:
        target = to_tensor([shrink(image)])
        latent = vae.encode(target).latent_dist.mean
        error = (vae.decode(latent).sample.clamp(-1, 1) - target) / 2
        l1.append(error.abs().mean().item())
        psnr.append(-10 * math.log10(error.square().mean().item()))
        noise = torch.randn(len(timesteps), *latent.shape[1:], generator=generator)
        noisy = scheduler.add_noise(latent.expand_as(noise), noise, timesteps)
        noise_mse.append(F.mse_loss(unet(noisy, timesteps, tokens).sample, noise).item())
        latents.append(latent)
    means = {"l1": np.mean(l1), "psnr": np.mean(psnr), "noise_mse": np.mean(noise_mse)}
    means["latent_std"] = torch.cat(latents).std().item()
    return {name: round(float(value), 5) for name, value in means.items()}


@torch.no_grad()
def draw_samples(
    vae: AutoencoderKL, unet: UNet2DConditionModel, context: Tensor, seed: int
) -> Tensor:
    """Draw new images with deterministic DDIM: (PICTURES, 3, H, W) in [-1, 1]."""
    scheduler = DDIMScheduler.from_config(build_scheduler().config, set_alpha_to_one=False)
    scheduler.set_timesteps(DDIM_STEPS)
    generator = torch.Generator().manual_seed(seed)
    shape = (PICTURES, LATENT_CHANNELS, *unet.config.sample_size)
    latents = torch.randn(shape, generator=generator)
    for timestep in tqdm(scheduler.timesteps, desc="sample", unit="step"):
        noise = unet(latents, timestep, context.expand(PICTURES, -1, -1)).sample
        latents = scheduler.step(noise, timestep, latents).prev_sample
    return vae.decode(latents).sample


@torch.no_grad()
def save_pictures(path: Path, vae: AutoencoderKL, images: np.ndarray, samples: Tensor) -> None:
    """Write rows of images, each followed by its reconstructions, and then rows of samples."""
    originals = to_tensor([shrink(image) for image in images[:PICTURES]])
    reconstructions = vae.decode(vae.encode(originals).latent_dist.mean).sample
    rows = []
    pairs = originals.split(PICTURES_PER_ROW), reconstructions.split(PICTURES_PER_ROW)
    for pair in zip(*pairs, strict=True):
        rows += pair
    rows += samples.split(PICTURES_PER_ROW)
    height, width = samples.shape[2] + 4, samples.shape[3] + 4  # with a margin
    canvas = np.full((len(rows) * height, PICTURES_PER_ROW * width, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        pictures = ((row.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        for j, picture in enumerate(pictures):
            top, left = i * height + 2, j * width + 2
            canvas[top : top + height - 4, left : left + width - 4] = picture
    write_png(canvas, path)


def save_folder(
    output: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    context: Tensor,
    metrics: dict[str, object],
) -> None:
    """Write the diffusers folder in half precision; rename it into place when it is complete."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as name:
        folder = Path(name) / "new"
        vae.half().save_pretrained(folder / "vae")
        unet.half().save_pretrained(folder / "unet")
        build_scheduler().save_pretrained(folder / "scheduler")
        save_file({"context": context.half()}, folder / "context.safetensors")
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        if output.exists():
            output.rename(Path(name) / "old")
        folder.rename(output)
