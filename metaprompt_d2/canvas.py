"""Outputs as large as a photograph: where they lie, and how they are resized in strips of rows.

150 classes at 6000x4000 pixels are 14.4 GB in float32, more than most GPUs have beside a model.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["fits", "resized", "resized_strips", "zeros"]

_STRIP = 2**24  # values of a strip
_GIB = 2**30


def fits(shape: Sequence[int], max_gib: float) -> bool:
    """Whether float32 values of a shape take at most that many GiB."""
    return 4 * torch.Size(shape).numel() <= max_gib * _GIB


def zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device, max_gib: float) -> Tensor:
    """Zeros on a device or, where they are larger than `max_gib`, in the main memory."""
    return torch.zeros(tuple(shape), dtype=dtype, device=device if fits(shape, max_gib) else "cpu")


def resized(maps: Tensor, size: tuple[int, int], max_gib: float) -> Tensor:
    """Bilinear, without aligned corners; the result is the only memory of its size.

    Args:
        maps: (K, h, w).
        size: (height, width).
        max_gib: a larger result lies in the main memory.

    Returns:
        (K, height, width); `maps` itself where it has the size already.
    """
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if maps.device.type == "cpu" or fits((len(maps), *size), max_gib):
        return _interpolated(maps, size)
    result = torch.empty((len(maps), *size), dtype=maps.dtype)
    for rows, strip in resized_strips(maps, size):
        result[:, rows] = strip
    return result


def resized_strips(maps: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """What `resized` gives, some rows at a time.

    Args:
        maps: (K, h, w).
        size: (height, width).

    Yields:
        rows of the result and their values, (K, rows, width), on the device of `maps`: 64 MiB in
        float32, or one row.
    """
    height, width = size
    step = max(_STRIP // (len(maps) * width), 1)
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        yield rows, _resized_rows(maps, size, rows)


def _resized_rows(maps: Tensor, size: tuple[int, int], rows: slice) -> Tensor:
    height, width = size
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps[:, rows]
    if rows == slice(0, height):
        return _interpolated(maps, size)
    last = maps.shape[-2] - 1
    centres = torch.arange(rows.start, rows.stop, device=maps.device, dtype=torch.float64) + 0.5
    source = (centres * maps.shape[-2] / height - 0.5).clamp(0, last)
    above = source.floor().long()
    below = (above + 1).clamp(max=last)
    share = (source - above).to(maps.dtype)[:, None]
    strip = torch.lerp(maps[:, above], maps[:, below], share)
    return _interpolated(strip, (len(centres), width))


def _interpolated(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[None], size=tuple(size), mode="bilinear", align_corners=False)[0]
