"""Predict in windows, and keep and resize outputs that are too large for the device.

Windows slide over an image. Where they overlap, their predictions are averaged on a canvas of the
image's size, which is allocated in main memory where it is large.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..layers import resize

_STRIP = 2**24  # values of a strip
_GIB = 2**30

# Rows and columns of an image.
Window = tuple[slice, slice]


def window_starts(length: int, size: int, stride: int) -> list[int]:
    """Place windows of `size` pixels along an axis; the last one is moved back to the border.

    Returns:
        The first position of each window; an axis that isn't longer than a window has one, at 0.
    """
    count = max(length - size + stride - 1, 0) // stride + 1
    return [max(min(index * stride + size, length) - size, 0) for index in range(count)]


def sliding_windows(
    image_size: tuple[int, int], size: tuple[int, int], stride: tuple[int, int]
) -> list[Window]:
    """Place windows of one size over an image, row by row; sizes are (height, width) in pixels."""
    axes = zip(image_size, size, stride, strict=True)
    return _combine_axes(image_size, size, [window_starts(*axis) for axis in axes])


def shifted_window_starts(
    length: int, size: int, count: int, *, cover_all: bool = True
) -> list[int]:
    """Place `count` windows along an axis, (length - size) // (count - 1) apart.

    This stride need not divide evenly, so that the windows may end before the border: on KITTI's
    1216 columns, 16 windows of 352 leave 9. `cover_all` adds a window at the border, and more where
    they would leave gaps.

    Returns:
        The first position of each window; an axis that isn't longer than a window has one, at 0.
    """
    stride = max(length - size, 0) // max(count - 1, 1)
    if cover_all:
        return window_starts(length, size, min(max(stride, 1), size))
    return sorted({index * stride for index in range(count)})


def shifted_windows(
    image_size: tuple[int, int], count: int, *, cover_all: bool = True
) -> list[Window]:
    """Place square windows, as high as the image's shorter side, with `shifted_window_starts`."""
    side = min(image_size)
    starts = [
        shifted_window_starts(length, side, count, cover_all=cover_all) for length in image_size
    ]
    return _combine_axes(image_size, (side, side), starts)


def _combine_axes(
    image_size: tuple[int, int], size: tuple[int, int], starts: Sequence[Sequence[int]]
) -> list[Window]:
    rows, columns = (
        [slice(start, min(start + side, length)) for start in places]
        for length, side, places in zip(image_size, size, starts, strict=True)
    )
    return list(itertools.product(rows, columns))


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
        images: Images, or maps of them, (N, C, H, W).
        windows: Windows of one size in `images`.
        batch_size: Windows that are passed to `predict` at once, mirrored ones included.
        flip: Whether to predict every window mirrored too, and mirror the result back.
        canvas_gib: Size in GiB above which the canvas is in main memory.
        stride: Pixels of the output for one of `images`.

    Returns:
        Maps (N, K, H * stride, W * stride).
    """
    height, width = images.shape[-2:]
    is_whole = windows == [(slice(0, height), slice(0, width))]
    if is_whole and not flip and len(images) <= batch_size:
        return predict(images)
    flips = (False, True) if flip else (False,)
    views = list(itertools.product(range(len(images)), flips, windows))
    total = coverage = torch.empty(0)  # made when the first outputs tell the number of channels
    for start in range(0, len(views), batch_size):
        batch = views[start : start + batch_size]
        crops = [_mirror_if(flipped, images[i, :, *window]) for i, flipped, window in batch]
        outputs = predict(torch.stack(crops))
        if start == 0:
            shape = len(images), outputs.shape[1], height * stride, width * stride
            total = allocate_canvas(shape, outputs.dtype, outputs.device, canvas_gib)
            coverage = torch.zeros_like(total[:, :1])
        for (i, flipped, window), output in zip(batch, outputs, strict=True):
            rows, columns = (slice(part.start * stride, part.stop * stride) for part in window)
            total[i, :, rows, columns] += _mirror_if(flipped, output).to(total.device)
            coverage[i, :, rows, columns] += 1
        del outputs, output  # before the next batch
    return total.div_(coverage)


def _mirror_if(flipped: bool, x: Tensor) -> Tensor:
    return x.flip(-1) if flipped else x


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
    """Resize maps (K, h, w) as `resize` does, without other memory of the result's size.

    The result is in main memory where it takes more than `max_gib` GiB.
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
    """Resize maps (K, h, w) as `resize` does, some rows at a time.

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
