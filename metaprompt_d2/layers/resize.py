"""Resize maps."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps bilinearly, without aligned corners.

    Args:
        maps: Maps (N, C, h, w).
        size: Height and width of the result.

    Returns:
        Maps (N, C, *size), or `maps` itself where it has this size already.
    """
    # A program that is traced for many sizes must not depend on the outcome for one of them.
    if not torch.compiler.is_compiling() and tuple(size) == tuple(maps.shape[-2:]):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
