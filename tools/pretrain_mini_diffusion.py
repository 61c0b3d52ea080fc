"""Train a small latent diffusion model on the mini world's images, without any label.

The result is an ordinary diffusers folder with the structure of Stable Diffusion 1.x in the small:
`vae/` (AutoencoderKL), `unet/` (UNet2DConditionModel), `scheduler/` (DDPMScheduler), and
`context.safetensors`, the learned tokens which the cross-attention reads instead of a text.
`metrics.json` keeps the settings and the errors on the training and the held-out images.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm, trange

VAE_WIDTHS = (16, 32, 48, 64)
VAE_NORM_GROUPS = 8
UNET_WIDTHS = (48, 64, 96, 96)
UNET_NORM_GROUPS = 16
LATENT_CHANNELS = 8
LATENT_STRIDE = 8
SIZE_MULTIPLE = 64  # the VAE divides the image size by 8, the UNet the latent size by 8 again
CONTEXT_SHAPE = (32, 64)  # tokens x channels

KL_WEIGHT = 1e-7
EDGE_WEIGHT = 0.3
SQUARE_WEIGHT = 4.0
BLOCK_SIZES = (1, 4)
# brightness; red against green; blue against yellow
OPPONENT_COLORS = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1.5, -1.5, 0], [-0.75, -0.75, 1.5]])
INITIAL_LOG_VARIANCE = -6.0
PATCH_FRACTION = 0.9
MIN_CROP_SCALE = 0.6
VAE_LEARNING_RATE = 2e-3
UNET_LEARNING_RATE = 1e-3
WARMUP_FRACTION = 0.05
EMA_DECAY = 0.995
EVALUATION_TIMESTEPS = range(50, 1000, 100)
DDIM_STEPS = 50
PICTURES = 8  # reconstructions and samples in the picture grid
PICTURES_PER_ROW = 4


class ImageError(RuntimeError):
    """The training images are missing or unreadable; the message says which and what to do."""


def load_images(folder: Path, height: int, width: int) -> np.ndarray:
    """Load every PNG below a folder.

    Returns:
        RGB images of twice the given size, so that crops stay sharp: (N, 2H, 2W, 3) uint8.
    """
    paths = sorted(folder.rglob("*.png"))
    if not paths:
        raise ImageError(
            f"no PNG images below {folder}; make them with `python datasets/make_mini.py` "
            "or name another folder with --images"
        )
    images = np.empty((len(paths), 2 * height, 2 * width, 3), np.uint8)
    for i, path in enumerate(tqdm(paths, desc=f"load {folder.name}", unit="image")):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise ImageError(f"not a readable image: {path}")
        images[i] = cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_AREA)
    return images


def to_tensor(images: list[np.ndarray]) -> Tensor:
    """Stack (H, W, 3) uint8 images to a float32 tensor (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def shrink(image: np.ndarray) -> np.ndarray:
    """Halve the size of an image by area: (2H, 2W, 3) to (H, W, 3)."""
    height, width = image.shape[:2]
    return cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)


def augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Crop at a random scale and place, resize to half the input's size and flip at random."""
    height, width = image.shape[:2]
    scale = rng.uniform(MIN_CROP_SCALE, 1)
    crop_height, crop_width = round(scale * height), round(scale * width)
    top = rng.integers(height - crop_height + 1)
    left = rng.integers(width - crop_width + 1)
    crop = image[top : top + crop_height, left : left + crop_width]
    crop = cv2.resize(crop, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def random_batch(images: np.ndarray, size: int, rng: np.random.Generator) -> Tensor:
    """Augmented images, drawn with replacement: (size, 3, H, W) in [-1, 1]."""
    return to_tensor([augment(images[i], rng) for i in rng.integers(len(images), size=size)])


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


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Squared error of (B, 3, H, W) images and of their averages over blocks, and error of edges.

    In brightness and two opponent colours, which weigh more: brightness has most of the variance,
    and a narrow network would be slow to learn anything else.
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
        """Update the parameters once; stop with an error when the loss is not finite."""
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"{self.progress.desc} diverged: the loss is {value}")
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

    Most steps take patches of half the height and width, for more steps in the same time; the
    last ones take whole views, for the normalisation and attention to see their full extent.
    """
    rng = np.random.default_rng(seed)
    # Latents that begin as unit noise would hide the first, weak signal from the decoder.
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
def fold_scale(vae: AutoencoderKL, scale: float) -> None:
    """Multiply the latents by a scale inside the VAE, whose reconstructions stay the same.

    The posterior's mean is multiplied by `scale` and its log-variance raised by 2 log(scale) in
    quant_conv; post_quant_conv divides by `scale` again.
    """
    channels = vae.config.latent_channels
    vae.quant_conv.weight[:channels] *= scale
    vae.quant_conv.bias[:channels] *= scale
    vae.quant_conv.bias[channels:] += 2 * math.log(scale)
    vae.post_quant_conv.weight /= scale


@torch.no_grad()
def encode_views(vae: AutoencoderKL, images: np.ndarray, views: int, seed: int) -> Tensor:
    """Encode several augmented views of every image.

    Returns:
        the posterior means: (views * N, C, H/8, W/8).
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

    Both end as the exponential moving average of their values.
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


@torch.no_grad()
def evaluate(
    vae: AutoencoderKL, unet: UNet2DConditionModel, context: Tensor, images: np.ndarray, seed: int
) -> dict[str, float]:
    """Measure the model on whole, unaugmented images (N, 2H, 2W, 3).

    Returns:
        l1: mean absolute error of the reconstructions, for images in [0, 1];
        psnr: their peak signal-to-noise ratio in dB, averaged over the images;
        latent_std: the standard deviation of all latent values;
        noise_mse: mean squared error of the predicted noise, over evenly spaced time steps.
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
    """Write rows of original images, each over its reconstructions, and then rows of samples."""
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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    if not cv2.imwrite(str(temporary), cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR)):
        raise OSError(f"cannot write {path}")
    os.replace(temporary, path)


def save_folder(
    output: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    context: Tensor,
    metrics: dict[str, object],
) -> None:
    """Write the diffusers folder in half precision; it takes its name only when complete."""
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


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    images = Path("datasets/mini/cityscapes/leftImg8bit")
    add("--images", type=Path, default=images, help="folder with PNGs below train/ and val/")
    add("--output", type=Path, default=Path("configs/mini/diffusion"), help="folder to write")
    samples = Path("output/mini_diffusion.png")
    add("--samples", type=Path, default=samples, help="picture of reconstructions and samples")
    add("--vae-iterations", type=int, default=3600, help="training steps of the autoencoder")
    add("--unet-iterations", type=int, default=1800, help="training steps of the UNet")
    add("--vae-batch-size", type=int, default=4, help="images per step of the autoencoder")
    add("--batch-size", type=int, default=8, help="latents per step of the UNet")
    add("--views", type=int, default=4, help="augmented views encoded of every training image")
    add("--image-height", type=int, default=128, help=f"a multiple of {SIZE_MULTIPLE}")
    add("--image-width", type=int, default=256, help=f"a multiple of {SIZE_MULTIPLE}")
    add("--seed", type=int, default=0, help="seed of weights, augmentation and noise")
    add("--threads", type=int, default=2, help="CPU threads; another number rounds differently")
    args = parser.parse_args(argv)
    for name, value in vars(args).items():
        if isinstance(value, int) and name != "seed" and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if args.image_height % SIZE_MULTIPLE or args.image_width % SIZE_MULTIPLE:
        parser.error(f"the image height and width must be multiples of {SIZE_MULTIPLE}")
    if args.output.exists() and not (args.output / "vae").is_dir():
        parser.error(f"{args.output} exists and is no diffusion model; it is left as it is")
    return args


def pretrain(args: argparse.Namespace) -> dict[str, object]:
    """Train both models, write the folder and the pictures, and return settings and errors."""
    height, width = args.image_height, args.image_width
    train_images = load_images(args.images / "train", height, width)
    val_images = load_images(args.images / "val", height, width)

    vae = build_vae(height, width)
    train_vae(vae, train_images, args.vae_iterations, args.vae_batch_size, args.seed)
    vae.eval().requires_grad_(False)
    latents = encode_views(vae, train_images, args.views, args.seed)
    std = latents.std().item()
    fold_scale(vae, 1 / std)

    unet = build_unet(height, width)
    context = nn.Parameter(torch.randn(1, *CONTEXT_SHAPE))
    train_unet(unet, context, latents / std, args.unet_iterations, args.batch_size)
    unet.eval().requires_grad_(False)

    tokens = context.detach().half().float()
    for model in (vae, unet):
        model.half().float()  # what follows measures and shows the rounded weights, as saved
    metrics = {name: value for name, value in vars(args).items() if isinstance(value, int)} | {
        "train_images": len(train_images),
        "train": evaluate(vae, unet, tokens, train_images[: len(val_images)], args.seed),
        "val": evaluate(vae, unet, tokens, val_images, args.seed),
    }
    samples = draw_samples(vae, unet, tokens, args.seed)
    save_pictures(args.samples, vae, val_images, samples)
    save_folder(args.output, vae, unet, tokens[0], metrics)
    return metrics


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = parse_arguments(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    start = time.perf_counter()
    try:
        metrics = pretrain(args)
    except (ImageError, FloatingPointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(metrics, indent=2))
    minutes = (time.perf_counter() - start) / 60
    print(f"wrote {args.output} and {args.samples} in {minutes:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
