"""Predict in windows, and keep and resize outputs that are too large for the device.

Windows slide over an image. Where they overlap, their predictions are averaged on a canvas of the
image's size, which is allocated in main memory where it is large.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..layers import resize

_STRIP = 2**24  # values of a strip
_GIB = 2**30

# Rows and columns of an image.
Window = tuple[slice, slice]
# Index of the image, window, and whether it is mirrored.
_View = tuple[int, Window, bool]


def window_starts(length: int, size: int, stride: int) -> list[int]:
    """Place windows along one axis; the last window ends at the border.

    Args:
        length: Length of the axis in pixels.
        size: Length of a window; a shorter axis is one window.
        stride: Distance between windows.

    Returns:
        The first position of each window.
    """
    count = max(length - size + stride - 1, 0) // stride + 1
    return [max(min(index * stride + size, length) - size, 0) for index in range(count)]


def sliding_windows(
    image_size: tuple[int, int], size: tuple[int, int], stride: tuple[int, int]
) -> list[Window]:
    """Place windows of one size over an image, row by row.

    Args:
        image_size, size, stride: Image, windows and their distance, as (height, width) in pixels.
    """
    rows, columns = (
        _slices(length, extent, window_starts(length, extent, step))
        for length, extent, step in zip(image_size, size, stride, strict=True)
    )
    return [(row, column) for row in rows for column in columns]


def shifted_window_starts(
    length: int, size: int, count: int, *, cover_all: bool = True
) -> list[int]:
    """Place `count` windows along one axis, (length - size) // (count - 1) apart.

    This stride need not divide evenly, so that the windows may end before the border: on KITTI's
    1216 columns, 16 windows of 352 leave 9.

    Args:
        length: Length of the axis in pixels.
        size: Length of a window; an axis that isn't longer is one window.
        count: Number of windows.
        cover_all: Whether to add a window at the border, and more where they would leave gaps.

    Returns:
        The first position of each window.
    """
    stride = max(length - size, 0) // max(count - 1, 1)
    if cover_all:
        return window_starts(length, size, min(max(stride, 1), size))
    return sorted({index * stride for index in range(count)})


def shifted_windows(
    image_size: tuple[int, int], count: int, *, cover_all: bool = True
) -> list[Window]:
    """Place square windows with the image's shorter side along its longer side.

    Args:
        image_size: Size of the image as (height, width).
        count, cover_all: See `shifted_window_starts`.
    """
    side = min(image_size)
    rows, columns = (
        _slices(length, side, shifted_window_starts(length, side, count, cover_all=cover_all))
        for length in image_size
    )
    return [(row, column) for row in rows for column in columns]


def _slices(length: int, size: int, starts: Sequence[int]) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in starts]


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
    """Average a dense prediction over windows and, optionally, their mirror images.

    Only one canvas of the output and one batch of windows are in memory. Pixels without a window
    are NaN.

    Args:
        predict: Function from windows (B, C, h, w) to maps (B, K, h * stride, w * stride).
        images: Images (N, C, H, W), or maps of them.
        windows: Windows of one size in pixels: multiples of `stride`.
        batch_size: Windows that are passed to `predict` at once, mirrored ones included.
        flip: Whether to predict every window mirrored too, and mirror the result back.
        canvas_gib: Size in GiB above which the canvas is in main memory.
        stride: Pixels for one of `images`.

    Returns:
        Maps (N, K, H * stride, W * stride).
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
    """Check whether float32 values of a shape take at most `max_gib` GiB."""
    return 4 * torch.Size(shape).numel() <= max_gib * _GIB


def allocate_canvas(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device, max_gib: float
) -> Tensor:
    """Allocate zeros on a device or, where they take more than `max_gib`, in main memory."""
    place = device if fits_canvas(shape, max_gib) else "cpu"
    return torch.zeros(tuple(shape), dtype=dtype, device=place)


def resize_map(maps: Tensor, size: tuple[int, int], max_gib: float) -> Tensor:
    """Resize maps as `resize` does, without other memory of the result's size.

    Args:
        maps: Maps (K, h, w).
        size: Size of the result as (height, width).
        max_gib: Size in GiB above which the result is in main memory.

    Returns:
        Maps (K, height, width), or `maps` itself where it has this size already.
    """
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if maps.device.type == "cpu" or fits_canvas((len(maps), *size), max_gib):
        return resize(maps[None], size)[0]
    result = torch.empty((len(maps), *size), dtype=maps.dtype)
    for rows, strip in resize_in_strips(maps, size):
        result[:, rows] = strip
    return result


def resize_in_strips(maps: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Resize maps as `resize_map` does, some rows at a time.

    Args:
        maps: Maps (K, h, w).
        size: Size of the result as (height, width).

    Yields:
        Rows of the result and their values (K, rows, width) on the device of `maps`: 64 MiB in
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
        return resize(maps[None], size)[0]
    last = maps.shape[-2] - 1
    centers = torch.arange(rows.start, rows.stop, device=maps.device, dtype=torch.float64) + 0.5
    source = (centers * maps.shape[-2] / height - 0.5).clamp(0, last)
    above = source.floor().long()
    below = (above + 1).clamp(max=last)
    share = (source - above).to(maps.dtype)[:, None]
    strip = torch.lerp(maps[:, above], maps[:, below], share)
    return resize(strip[None], (len(centers), width))[0]
