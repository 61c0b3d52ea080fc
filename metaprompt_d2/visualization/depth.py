"""Pictures of depth."""

from collections.abc import Callable

import cv2
import numpy as np

from .layout import WHITE, side_by_side, title_height, with_title, write_text

__all__ = ["DEPTH_COLORS", "color_mapped", "compare_depth", "thickened"]

DEPTH_COLORS = cv2.COLORMAP_VIRIDIS  # reversed: near is bright
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_NO_VALUE = 128  # grey, which no colour map below has
_ERROR_COLORS = cv2.COLORMAP_MAGMA
_LARGE_ERROR = 0.2  # share of the depth's scale at which the error's ends


def compare_depth(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None, *, max_depth: float
) -> np.ndarray:
    """Image, ground truth, prediction and absolute error, each map over its scale in metres.

    Ground truth and prediction share one scale, from 0 to the farthest ground truth; the error's
    ends at a fifth of it. What lies beyond has the scale's last colour, what has no value is grey.
    Sparse ground truth, as a laser's, is drawn with larger points.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: (H, W) metres; NaN and infinity have no value.
        truth: (H, W) metres, 0 = no value, or None: then only image and prediction are drawn.
        max_depth: metres at which the scale ends at the latest.

    Returns:
        (H', W', 3) uint8 RGB with a title over each picture.
    """
    farthest = max_depth
    if truth is not None and truth.any():
        farthest = min(max_depth, float(truth.max()))
    height = title_height(image)
    blank = np.full((2 * height, image.shape[1], 3), WHITE, np.uint8)
    columns = [np.vstack([with_title(image, "image"), blank])]

    def add(title: str, values: np.ndarray, end: float, color_map: int, reverse: bool) -> None:
        bar = _scale_bar(image.shape[1], height, end, color_map, reverse)
        picture = color_mapped(values, end, color_map, reverse)
        columns.append(np.vstack([with_title(picture, title), bar]))

    prediction = np.where(np.isfinite(prediction), prediction, np.nan)
    if truth is not None:
        truth = np.where(truth > 0, truth, np.nan)
        # The nearest of the points that meet in a pixel lies in front.
        add("ground truth", thickened(truth, np.fmin), farthest, DEPTH_COLORS, True)
    add("prediction", prediction, farthest, DEPTH_COLORS, True)
    if truth is not None:
        error = thickened(np.abs(prediction - truth), np.fmax)
        add("absolute error", error, _LARGE_ERROR * farthest, _ERROR_COLORS, False)
    return side_by_side(columns)


def color_mapped(values: np.ndarray, end: float, color_map: int, reverse: bool) -> np.ndarray:
    """Colours of 0..end, RGB; NaN is grey."""
    missing = np.isnan(values)
    share = np.where(missing, 0, values / end).clip(0, 1)
    levels = np.rint((1 - share if reverse else share) * 255).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, color_map), cv2.COLOR_BGR2RGB)
    colors[missing] = _NO_VALUE
    return colors


def _scale_bar(width: int, height: int, end: float, color_map: int, reverse: bool) -> np.ndarray:
    """A strip with the colours of 0..end over their metres, 2 * `height` high."""
    bar = np.full((2 * height, width, 3), WHITE, np.uint8)
    ramp = np.broadcast_to(np.linspace(0, end, width), (height - height // 4, width))
    bar[height // 4 : height] = color_mapped(ramp, end, color_map, reverse)
    for label, place in (("0", 0.0), (f"{end / 2:.3g}", 0.5), (f"{end:.3g} m", 1.0)):
        (extent, _), _ = cv2.getTextSize(label, _FONT, height / 33, 1)
        left = int(place * (width - extent - 4)) + 2
        write_text(bar, label, (left, int(height * 1.85)), height)
    return bar


def thickened(
    values: np.ndarray, choose: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Values grown to 3x3 pixels where most pixels have none (NaN)."""
    if np.isnan(values).mean() < 0.5:
        return values
    for axis in (0, 1):
        edge = [(1, 1) if other == axis else (0, 0) for other in (0, 1)]
        padded = np.pad(values, edge, constant_values=np.nan)
        before, after = np.delete(padded, [-1, -2], axis), np.delete(padded, [0, 1], axis)
        values = choose(choose(before, values), after)
    return values
