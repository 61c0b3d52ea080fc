"""Windows that slide over an image, and the average of what they saw where they overlap."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["Window", "predict_in_windows", "sliding_windows", "window_starts"]

# Rows and columns of an image.
Window = tuple[slice, slice]


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


def predict_in_windows(
    predict: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    size: tuple[int, int],
    stride: tuple[int, int],
    batch_size: int,
) -> Tensor:
    """Average a dense prediction over sliding windows.

    Holds one canvas of the output and one batch of windows, never all windows.

    Args:
        predict: (B, C, h, w) windows -> (B, K, h, w).
        image: (C, H, W).
        size, stride: of the windows, (height, width).
        batch_size: windows passed to `predict` at once.

    Returns:
        (K, H, W).
    """
    height, width = image.shape[-2:]
    windows = sliding_windows((height, width), size, stride)
    if len(windows) == 1:
        return predict(image[None])[0]
    total, coverage = None, image.new_zeros(height, width)
    for batch in _batches(windows, batch_size):
        outputs = predict(torch.stack([image[:, rows, columns] for rows, columns in batch]))
        if total is None:
            total = outputs.new_zeros(outputs.shape[1], height, width)
        for (rows, columns), output in zip(batch, outputs, strict=True):
            total[:, rows, columns] += output
            coverage[rows, columns] += 1
    return total / coverage


def _batches(windows: list[Window], batch_size: int) -> Iterator[list[Window]]:
    for start in range(0, len(windows), batch_size):
        yield windows[start : start + batch_size]
