"""Which images of a batch pass through a dense model together, and at which size."""

from collections.abc import Iterator, Sequence

import torch
from detectron2.modeling import Backbone
from detectron2.structures import ImageList
from torch import Tensor
from torch.nn import functional as F

__all__ = ["equal_sizes", "padded_for"]


def equal_sizes(images: Sequence[Tensor]) -> Iterator[list[int]]:
    """Indices of the images, those of one size together."""
    groups: dict[torch.Size, list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.shape, []).append(index)
    yield from groups.values()


def padded_for(backbone: Backbone, images: Tensor, multiple: int = 0) -> Tensor:
    """Images of one size, filled up right and below with 0 to what a backbone takes.

    As Detectron2's `ImageList`, but traceable.

    Args:
        backbone: may ask for multiples of its `size_divisibility` or for squares.
        images: (N, C, H, W).
        multiple: of which the sides have to be in place of `size_divisibility`.
    """
    multiple = multiple or backbone.size_divisibility
    constraints = backbone.padding_constraints
    if constraints.get("square_size", 0) > 0:
        return ImageList.from_tensors(
            list(images), multiple, padding_constraints=constraints
        ).tensor
    if multiple <= 1:
        return images
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))
