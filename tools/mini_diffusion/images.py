"""Load training images at twice their size and augment them."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from metaprompt_d2.utils.errors import InputError

MIN_CROP_SCALE = 0.6


class ImageError(InputError):
    """The training images are missing or unreadable."""


def load_images(folder: Path, height: int, width: int) -> np.ndarray:
    """Load every PNG below a folder.

    Returns:
        (N, 2H, 2W, 3) uint8 RGB, twice the given size so that crops stay sharp.
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
    """Stack (H, W, 3) uint8 images into a float32 tensor (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def shrink(image: np.ndarray) -> np.ndarray:
    """Halve the size of an image by area: (2H, 2W, 3) to (H, W, 3)."""
    height, width = image.shape[:2]
    return cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)


def augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Crop at a random scale and position, resize to half the input's size and flip at random."""
    height, width = image.shape[:2]
    scale = rng.uniform(MIN_CROP_SCALE, 1)
    crop_height, crop_width = round(scale * height), round(scale * width)
    top = rng.integers(height - crop_height + 1)
    left = rng.integers(width - crop_width + 1)
    crop = image[top : top + crop_height, left : left + crop_width]
    crop = cv2.resize(crop, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def random_batch(images: np.ndarray, size: int, rng: np.random.Generator) -> Tensor:
    """Draw augmented images with replacement: (size, 3, H, W) in [-1, 1]."""
    return to_tensor([augment(images[i], rng) for i in rng.integers(len(images), size=size)])
