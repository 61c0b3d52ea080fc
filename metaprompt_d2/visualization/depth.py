"""Draw depth maps and their errors."""

import cv2
import numpy as np

from .layout import WHITE, side_by_side, title_height, with_title, write_text

DEPTH_COLORS = cv2.COLORMAP_VIRIDIS  # used reversed: near is bright
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_NO_VALUE = 128  # gray, which none of the color maps contains
_ERROR_COLORS = cv2.COLORMAP_MAGMA
_LARGE_ERROR = 0.2  # end of the error scale as a fraction of the depth scale
_FAR = 1e9  # meters; beyond any value


def compare_depth(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None, *, max_depth: float
) -> np.ndarray:
    """Draw image, ground truth, prediction and absolute error, each map with a scale bar.

    Ground truth and prediction share one scale, from 0 to the farthest ground truth. The error
    scale ends at a fifth of it. Values beyond a scale have its last color; missing values are
    gray. Sparse ground truth, such as a laser's, is drawn with larger points.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: (H, W) meters. NaN and infinity are drawn as missing.
        truth: (H, W) meters, 0 where unknown. None draws only image and prediction.
        max_depth: Upper limit of the scale in meters.

    Returns:
        (H', W', 3) uint8 RGB with a title above each picture.
    """
    farthest = max_depth if truth is None else min(max_depth, float(truth.max()) or max_depth)
    blank = np.full((2 * title_height(image), image.shape[1], 3), WHITE, np.uint8)
    columns = [np.vstack([with_title(image, "image"), blank])]
    if truth is not None:
        truth = np.where(truth > 0, truth, np.nan)
        points = thickened(truth, nearest=True)
        columns.append(_draw_map("ground truth", points, farthest, DEPTH_COLORS, True))
    prediction = np.where(np.isfinite(prediction), prediction, np.nan)
    columns.append(_draw_map("prediction", prediction, farthest, DEPTH_COLORS, True))
    if truth is not None:
        error, end = np.abs(prediction - truth), _LARGE_ERROR * farthest
        points = thickened(error, nearest=False)
        columns.append(_draw_map("absolute error", points, end, _ERROR_COLORS, False))
    return side_by_side(columns)


def color_mapped(values: np.ndarray, end: float, color_map: int, reverse: bool) -> np.ndarray:
    """Map values from 0 to `end` to RGB colors; NaN and infinity are gray."""
    missing = ~np.isfinite(values)
    share = np.where(missing, 0, values / end).clip(0, 1)
    levels = np.rint((1 - share if reverse else share) * 255).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, color_map), cv2.COLOR_BGR2RGB)
    colors[missing] = _NO_VALUE
    return colors


def _draw_map(
    title: str, values: np.ndarray, end: float, color_map: int, reverse: bool
) -> np.ndarray:
    """Draw a map below its title and above its scale, a strip of the colors and numbers."""
    picture = color_mapped(values, end, color_map, reverse)
    height, width = title_height(picture), picture.shape[1]
    bar = np.full((2 * height, width, 3), WHITE, np.uint8)
    ramp = np.broadcast_to(np.linspace(0, end, width), (height - height // 4, width))
    bar[height // 4 : height] = color_mapped(ramp, end, color_map, reverse)
    for label, place in (("0", 0.0), (f"{end / 2:.3g}", 0.5), (f"{end:.3g} m", 1.0)):
        (extent, _), _ = cv2.getTextSize(label, _FONT, height / 33, 1)
        left = int(place * (width - extent - 4)) + 2
        write_text(bar, label, (left, int(height * 1.85)), height)
    return np.vstack([with_title(picture, title), bar])


def thickened(values: np.ndarray, *, nearest: bool) -> np.ndarray:
    """Grow values to 3x3 pixels if most are NaN; the nearest or the farthest covers the others."""
    missing = np.isnan(values)
    if missing.mean() < 0.5:
        return values
    sign = -1 if nearest else 1
    grown = cv2.dilate(np.where(missing, -_FAR, sign * values), np.ones((3, 3)))
    return np.where(grown == -_FAR, np.nan, sign * grown)
