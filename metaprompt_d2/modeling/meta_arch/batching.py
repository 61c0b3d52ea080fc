"""Which images of a batch pass through a dense model together."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["equal_sizes"]


def equal_sizes(images: Sequence[Tensor]) -> Iterator[list[int]]:
    """Indices of the images, those of one size together."""
    groups: dict[torch.Size, list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.shape, []).append(index)
    yield from groups.values()
