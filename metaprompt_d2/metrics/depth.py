"""Figures of one depth map, and the pixels on which the benchmarks take them (method 2.8)."""

import numpy as np

from ..utils.errors import InputError

__all__ = [
    "DEPTH_CROPS",
    "DEPTH_FIGURES",
    "clean_depth",
    "depth_crop_mask",
    "depth_figures",
    "kb_crop_box",
    "valid_depth_mask",
]

# What `depth_figures` returns: shares, ratios, metres or natural logarithms, never percent.
DEPTH_FIGURES = (
    *("d1", "d2", "d3"),
    *("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog"),
)

# Rows and columns, from and to, as shares of the frame.
_RELATIVE_CROPS = {
    # R. Garg et al., "Unsupervised CNN for Single View Depth Estimation", ECCV 2016
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    # D. Eigen et al., "Depth Map Prediction from a Single Image", NIPS 2014
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
DEPTH_CROPS = ("none", "nyu", *_RELATIVE_CROPS)

_KB_HEIGHT, _KB_WIDTH = 352, 1216


def kb_crop_box(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the KITTI benchmark's frame: the bottom 352 rows, 1216 centred columns.

    Raises:
        InputError: an image smaller than that.
    """
    if height < _KB_HEIGHT or width < _KB_WIDTH:
        raise InputError(
            f"a frame of {height}x{width} (height x width) is too small for KITTI's crop of "
            f"{_KB_HEIGHT}x{_KB_WIDTH}"
        )
    left = (width - _KB_WIDTH) // 2
    return slice(height - _KB_HEIGHT, height), slice(left, left + _KB_WIDTH)


def depth_crop_mask(crop: str, shape: tuple[int, int]) -> np.ndarray:
    """The part of the frame that a benchmark scores.

    Args:
        crop: one of `DEPTH_CROPS`. "nyu" is absolute, for frames of 480x640; "garg" and "eigen"
            are relative, for frames of `kb_crop_box`.
        shape: (height, width).

    Returns:
        (height, width) bool.

    Raises:
        InputError: another name.
    """
    if crop not in DEPTH_CROPS:
        raise InputError(f"depth crop is {crop!r}, expected one of {DEPTH_CROPS}")
    if crop == "none":
        return np.ones(shape, bool)
    if crop == "nyu":
        rows, columns = slice(45, 471), slice(41, 601)
    else:
        height, width = shape
        top, bottom, left, right = _RELATIVE_CROPS[crop]
        rows = slice(int(top * height), int(bottom * height))
        columns = slice(int(left * width), int(right * width))
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


def valid_depth_mask(
    target: np.ndarray, *, crop: str, min_depth: float, max_depth: float
) -> np.ndarray:
    """Pixels to score: in the crop, with ground truth strictly between the two depths.

    Args:
        target: (H, W) metres, 0 = no ground truth.
        crop: one of `DEPTH_CROPS`.
        min_depth, max_depth: metres.
    """
    return (target > min_depth) & (target < max_depth) & depth_crop_mask(crop, target.shape)


def clean_depth(
    pred: np.ndarray, *, min_depth: float, max_depth: float
) -> tuple[np.ndarray, int, int]:
    """Infinity becomes max_depth and NaN min_depth; nothing else is clamped.

    Returns:
        the cleaned copy, the number of NaN and that of infinite pixels.
    """
    nan, infinite = np.isnan(pred), np.isinf(pred)
    cleaned = np.where(infinite, max_depth, np.where(nan, min_depth, pred)).astype(pred.dtype)
    return cleaned, int(nan.sum()), int(infinite.sum())


def depth_figures(pred: np.ndarray, target: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Figures of one image, in float64.

    Args:
        pred, target: (H, W) metres.
        mask: (H, W) bool, the pixels to score. Without one, every figure is NaN.

    Returns:
        `DEPTH_FIGURES`. d1, d2, d3: shares of pixels whose ratio to the truth is below 1.25,
        1.25^2, 1.25^3; silog: sqrt(mean(e^2) - mean(e)^2 / 2) of e = ln(pred) - ln(target), not
        times 100. A prediction that is not positive has no logarithm: it gives infinity or NaN.
    """
    if not mask.any():
        return dict.fromkeys(DEPTH_FIGURES, float("nan"))
    pred, target = pred[mask].astype(np.float64), target[mask].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(target / pred, pred / target)
        error, log_error = pred - target, np.log(pred) - np.log(target)
        figures = {
            **{f"d{power}": np.mean(ratio < 1.25**power) for power in (1, 2, 3)},
            "abs_rel": np.mean(np.abs(error) / target),
            "sq_rel": np.mean(error**2 / target),
            "rmse": np.sqrt(np.mean(error**2)),
            "rmse_log": np.sqrt(np.mean(log_error**2)),
            "log10": np.mean(np.abs(log_error)) / np.log(10),
            "silog": np.sqrt(np.mean(log_error**2) - 0.5 * np.mean(log_error) ** 2),
        }
    return {name: float(figures[name]) for name in DEPTH_FIGURES}
