"""Train a small latent diffusion model on the mini world's images, without labels.

The result is an ordinary diffusers folder, structured like Stable Diffusion 1.x:
`vae/` (AutoencoderKL), `unet/` (UNet2DConditionModel), `scheduler/` (DDPMScheduler), and
`context.safetensors`, learned tokens that the cross-attention reads instead of a text.
`metrics.json` holds the settings and the errors on the training and the held-out images.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from mini_diffusion.images import load_images
from mini_diffusion.models import (
    CONTEXT_SHAPE,
    SIZE_MULTIPLE,
    build_unet,
    build_vae,
    fold_scale,
)
from mini_diffusion.results import draw_samples, evaluate, save_folder, save_pictures
from mini_diffusion.training import encode_views, train_unet, train_vae
from torch import nn

from metaprompt_d2.utils.errors import one_line_errors


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
    add("--unet-iterations", type=int, default=5000, help="training steps of the UNet")
    add("--vae-batch-size", type=int, default=4, help="images per step of the autoencoder")
    add("--batch-size", type=int, default=8, help="latents per step of the UNet")
    add("--views", type=int, default=6, help="augmented views to encode per training image")
    add("--image-height", type=int, default=128, help=f"a multiple of {SIZE_MULTIPLE}")
    add("--image-width", type=int, default=256, help=f"a multiple of {SIZE_MULTIPLE}")
    add("--seed", type=int, default=0, help="seed of weights, augmentation and noise")
    add("--threads", type=int, default=1, help="CPU threads; another number rounds differently")
    args = parser.parse_args(argv)
    for name, value in vars(args).items():
        if isinstance(value, int) and name != "seed" and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if args.image_height % SIZE_MULTIPLE or args.image_width % SIZE_MULTIPLE:
        parser.error(f"the image height and width must be multiples of {SIZE_MULTIPLE}")
    if args.output.exists() and not (args.output / "vae").is_dir():
        parser.error(f"{args.output} exists and isn't a diffusion model; it is left unchanged")
    return args


def pretrain(args: argparse.Namespace) -> dict[str, object]:
    """Train both models, write the folder and the pictures, and return the settings and errors."""
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
        model.half().float()  # measure and show the weights as saved
    metrics = {name: value for name, value in vars(args).items() if isinstance(value, int)} | {
        "train_images": len(train_images),
        "train": evaluate(vae, unet, tokens, train_images[: len(val_images)], args.seed),
        "val": evaluate(vae, unet, tokens, val_images, args.seed),
    }
    samples = draw_samples(vae, unet, tokens, args.seed)
    save_pictures(args.samples, vae, val_images, samples)
    save_folder(args.output, vae, unet, tokens[0], metrics)
    return metrics


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_arguments(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    start = time.perf_counter()
    metrics = pretrain(args)
    print(json.dumps(metrics, indent=2))
    minutes = (time.perf_counter() - start) / 60
    print(f"wrote {args.output} and {args.samples} in {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
