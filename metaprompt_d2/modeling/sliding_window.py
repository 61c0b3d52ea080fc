"""Windows that slide over an image, and the average of what they saw where they overlap."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "Window",
    "allocate_canvas",
    "fits_canvas",
    "predict_in_windows",
    "resize_in_strips",
    "resize_map",
    "shifted_window_starts",
    "shifted_windows",
    "sliding_windows",
    "window_starts",
]

_STRIP = 2**24  # values of a strip
_GIB = 2**30

# Rows and columns of an image.
Window = tuple[slice, slice]
# Number of the image, window, whether mirrored.
_View = tuple[int, Window, bool]


def window_starts(length: int, size: int, stride: int) -> list[int]:
    """First positions of the windows along one axis; the last window ends at the border.

    Args:
        length: of the axis, in pixels.
        size: of a window; an axis shorter than it is one window of its own length.
        stride: distance of two windows.
    """
    count = max(length - size + stride - 1, 0) // stride + 1
    return [max(min(index * stride + size, length) - size, 0) for index in range(count)]


def sliding_windows(
    image_size: tuple[int, int], size: tuple[int, int], stride: tuple[int, int]
) -> list[Window]:
    """Windows over an image, row by row, all of one size (method section 3.5).

    Args:
        image_size, size, stride: (height, width) in pixels.
    """
    rows, columns = (
        [slice(start, min(start + extent, length)) for start in window_starts(length, extent, step)]
        for length, extent, step in zip(image_size, size, stride, strict=True)
    )
    return [(row, column) for row in rows for column in columns]


def shifted_window_starts(
    length: int, size: int, count: int, *, cover_all: bool = True
) -> list[int]:
    """First positions of `count` windows, (length - size) // (count - 1) apart.

    That stride need not divide evenly, so that the windows may end short of the border: on KITTI's
    1216 columns, 16 windows of 352 leave 9 (method section 2.7).

    Args:
        length: of the axis, in pixels.
        size: of a window; an axis not longer is one window of its own length.
        count: of windows.
        cover_all: add a window at the border, and more where the windows would stand apart.
    """
    stride = max(length - size, 0) // max(count - 1, 1)
    if cover_all:
        return window_starts(length, size, min(max(stride, 1), size))
    return sorted({index * stride for index in range(count)})


def shifted_windows(
    image_size: tuple[int, int], count: int, *, cover_all: bool = True
) -> list[Window]:
    """Square windows as large as the image's shorter side, shifted along its longer side.

    Args:
        image_size: (height, width) in pixels.
        count, cover_all: as in `shifted_window_starts`.
    """
    side = min(image_size)
    rows, columns = (
        [
            slice(start, start + side)
            for start in shifted_window_starts(length, side, count, cover_all=cover_all)
        ]
        for length in image_size
    )
    return [(row, column) for row in rows for column in columns]


def predict_in_windows(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    windows: Sequence[Window],
    *,
    batch_size: int,
    flip: bool = False,
    canvas_gib: float = math.inf,
    stride: int = 1,
) -> Tensor:
    """Average a dense prediction over windows and, if asked for, their mirror images.

    Holds one canvas of the output and one batch of windows, never all windows. Pixels without a
    window are NaN.

    Args:
        predict: (B, C, h, w) windows -> (B, K, h * stride, w * stride).
        images: (N, C, H, W), or maps of them.
        windows: of one size, in pixels: multiples of `stride`.
        batch_size: windows passed to `predict` at once, mirrored ones counted too.
        flip: predict every window mirrored as well and mirror the result back.
        canvas_gib: a larger canvas lies in the main memory.
        stride: pixels for one of `images`.

    Returns:
        (N, K, H * stride, W * stride).
    """
    height, width = (side * stride for side in images.shape[-2:])
    whole = windows == [(slice(0, height), slice(0, width))]
    if whole and not flip and len(images) <= batch_size:
        return predict(images)
    views = [
        (image, window, mirrored)
        for image in range(len(images))
        for mirrored in ((False, True) if flip else (False,))
        for window in windows
    ]
    total, coverage = None, torch.zeros(len(images), 1, height, width)
    for batch in _batches(views, batch_size):
        outputs = predict(torch.stack([_crop(images, view, stride) for view in batch]))
        if total is None:
            shape = len(images), outputs.shape[1], height, width
            total = allocate_canvas(shape, outputs.dtype, outputs.device, canvas_gib)
            coverage = coverage.to(total)
        for (image, (rows, columns), mirrored), output in zip(batch, outputs, strict=True):
            part = _mirrored_if(mirrored, output)
            total[image, :, rows, columns] += part.to(total.device)
            coverage[image, :, rows, columns] += 1
        del outputs, output, part  # before the next batch
    return total.div_(coverage)


def _crop(images: Tensor, view: _View, stride: int) -> Tensor:
    image, window, mirrored = view
    rows, columns = (slice(part.start // stride, part.stop // stride) for part in window)
    return _mirrored_if(mirrored, images[image, :, rows, columns])


def _mirrored_if(mirrored: bool, x: Tensor) -> Tensor:
    return x.flip(-1) if mirrored else x


def _batches(views: list[_View], batch_size: int) -> Iterator[list[_View]]:
    for start in range(0, len(views), batch_size):
        yield views[start : start + batch_size]


def fits_canvas(shape: Sequence[int], max_gib: float) -> bool:
    """Whether float32 values of a shape take at most that many GiB."""
    return 4 * torch.Size(shape).numel() <= max_gib * _GIB


def allocate_canvas(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device, max_gib: float
) -> Tensor:
    """Zeros on a device or, where they are larger than `max_gib`, in the main memory."""
    return torch.zeros(
        tuple(shape), dtype=dtype, device=device if fits_canvas(shape, max_gib) else "cpu"
    )


def resize_map(maps: Tensor, size: tuple[int, int], max_gib: float) -> Tensor:
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
    if maps.device.type == "cpu" or fits_canvas((len(maps), *size), max_gib):
        return _interpolate(maps, size)
    result = torch.empty((len(maps), *size), dtype=maps.dtype)
    for rows, strip in resize_in_strips(maps, size):
        result[:, rows] = strip
    return result


def resize_in_strips(maps: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """What `resize_map` gives, some rows at a time.

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
        yield rows, _resize_rows(maps, size, rows)


def _resize_rows(maps: Tensor, size: tuple[int, int], rows: slice) -> Tensor:
    height, width = size
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps[:, rows]
    if rows == slice(0, height):
        return _interpolate(maps, size)
    last = maps.shape[-2] - 1
    centres = torch.arange(rows.start, rows.stop, device=maps.device, dtype=torch.float64) + 0.5
    source = (centres * maps.shape[-2] / height - 0.5).clamp(0, last)
    above = source.floor().long()
    below = (above + 1).clamp(max=last)
    share = (source - above).to(maps.dtype)[:, None]
    strip = torch.lerp(maps[:, above], maps[:, below], share)
    return _interpolate(strip, (len(centres), width))


def _interpolate(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[None], size=tuple(size), mode="bilinear", align_corners=False)[0]
