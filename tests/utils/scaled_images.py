"""Images at the scales of test-time augmentation."""

import torch
from torch import Tensor

from metaprompt_d2.data import ResizeToBox


def scaled(image: Tensor, box: tuple[int, int] | None) -> Tensor:
    """Resize an image (3, H, W) to a box (long side, short side), or not at all."""
    if box is None:
        return image
    pixels = image.permute(1, 2, 0).numpy()
    pixels = ResizeToBox(*box).get_transform(pixels).apply_image(pixels)
    return torch.from_numpy(pixels).permute(2, 0, 1)
