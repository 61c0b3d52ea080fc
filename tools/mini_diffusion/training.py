"""Train the autoencoder to reconstruct images, then the UNet to predict noise."""

import math

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from metaprompt_d2.utils.errors import NonFiniteError

from .images import augment, random_batch, to_tensor
from .models import LATENT_CHANNELS, build_scheduler

KL_WEIGHT = 1e-7
EDGE_WEIGHT = 0.3
SQUARE_WEIGHT = 4.0
BLOCK_SIZES = (1, 4)
# Brightness, red against green, blue against yellow.
OPPONENT_COLORS = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1.5, -1.5, 0], [-0.75, -0.75, 1.5]])
INITIAL_LOG_VARIANCE = -6.0
PATCH_FRACTION = 0.9
VAE_LEARNING_RATE = 2e-3
UNET_LEARNING_RATE = 1e-3
WARMUP_FRACTION = 0.05
EMA_DECAY = 0.995


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Compute squared errors of (B, 3, H, W) images and of block averages, and the error of edges.

    Errors are taken in brightness and two opponent colors. The colors weigh more: brightness has
    most of the variance, and a narrow network would be slow to learn anything else.
    """
    error = torch.einsum("dc,bchw->bdhw", OPPONENT_COLORS, output - target)
    loss = EDGE_WEIGHT * (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean())
    for size in BLOCK_SIZES:
        loss = loss + SQUARE_WEIGHT * F.avg_pool2d(error, size).square().mean()
    return loss


class Trainer:
    """AdamW with warm-up, cosine decay and gradient clipping, behind a progress bar."""

    def __init__(self, parameters: list[nn.Parameter], rate: float, iterations: int, name: str):
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99))
        warmup = math.ceil(WARMUP_FRACTION * iterations)
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, warmup, iterations)
        self.progress = trange(iterations, desc=name, unit="it")
        self.average = 0.0

    def step(self, loss: Tensor) -> None:
        """Update the parameters once; raise an error if the loss is not finite."""
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteError(f"{self.progress.desc} diverged: the loss is {value}")
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.average = 0.98 * self.average + 0.02 * value if self.average else value
        self.progress.set_postfix(loss=f"{self.average:.4f}", refresh=False)


def train_vae(
    vae: AutoencoderKL, images: np.ndarray, iterations: int, batch_size: int, seed: int
) -> None:
    """Train the autoencoder on augmented images with a small KL term.

    Most steps use patches of half the height and width, which fits more steps into the same time.
    The last ones use whole views, so that normalization and attention see their full extent.
    """
    rng = np.random.default_rng(seed)
    # Latents that start as unit noise would hide the weak initial signal from the decoder.
    nn.init.constant_(vae.quant_conv.bias[LATENT_CHANNELS:], INITIAL_LOG_VARIANCE)
    trainer = Trainer(list(vae.parameters()), VAE_LEARNING_RATE, iterations, "train VAE")
    for step in trainer.progress:
        target = random_batch(images, batch_size, rng)
        if step < PATCH_FRACTION * iterations:
            height, width = target.shape[2] // 2, target.shape[3] // 2
            top, left = rng.integers(height + 1), rng.integers(width + 1)
            target = target[:, :, top : top + height, left : left + width]
        posterior = vae.encode(target).latent_dist
        output = vae.decode(posterior.sample()).sample
        loss = reconstruction_loss(output, target) + KL_WEIGHT * posterior.kl().mean()
        trainer.step(loss)


@torch.no_grad()
def encode_views(vae: AutoencoderKL, images: np.ndarray, views: int, seed: int) -> Tensor:
    """Encode several augmented views of every image.

    Returns:
        Posterior means, (views * N, C, H/8, W/8).
    """
    rng = np.random.default_rng(seed + 1)
    latents = []
    for _ in trange(views, desc="encode", unit="view"):
        for start in range(0, len(images), 8):
            batch = to_tensor([augment(image, rng) for image in images[start : start + 8]])
            latents.append(vae.encode(batch).latent_dist.mean)
    return torch.cat(latents)


def train_unet(
    unet: UNet2DConditionModel,
    context: nn.Parameter,
    latents: Tensor,
    iterations: int,
    batch_size: int,
) -> None:
    """Train the UNet and the context (T, C) to predict the noise in noisy latents.

    Both end with the exponential moving average of their values.
    """
    scheduler = build_scheduler()
    parameters = [*unet.parameters(), context]
    average = EMAModel(parameters, decay=EMA_DECAY)
    trainer = Trainer(parameters, UNET_LEARNING_RATE, iterations, "train UNet")
    for _ in trainer.progress:
        clean = latents[torch.randint(len(latents), (batch_size,))]
        timesteps = torch.randint(scheduler.config.num_train_timesteps, (batch_size,))
        noise = torch.randn_like(clean)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        predicted = unet(noisy, timesteps, context.expand(batch_size, -1, -1)).sample
        trainer.step(F.mse_loss(predicted, noise))
        average.step(parameters)
    average.copy_to(parameters)
