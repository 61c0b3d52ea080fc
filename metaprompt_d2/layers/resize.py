"""Resize maps."""

from collections.abc import Sequence

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
    if tuple(size) == tuple(maps.shape[-2:]):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
