"""Depth metrics of one image, and the pixels on which benchmarks compute them.

The definitions follow the official code (docs/method.md#depth-metrics).
"""

import numpy as np

from ..utils.errors import InputError

# Keys of the metrics. All but silog_bts are fractions, ratios, meters or logarithms.
DEPTH_METRICS = tuple("d1 d2 d3 abs_rel sq_rel rmse rmse_log log10 silog silog_bts".split())

# Top, bottom, left and right as fractions of the frame.
_RELATIVE_CROPS = {
    # R. Garg et al., "Unsupervised CNN for Single View Depth Estimation", ECCV 2016
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    # D. Eigen et al., "Depth Map Prediction from a Single Image", NIPS 2014
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
DEPTH_CROPS = ("none", "nyu", *_RELATIVE_CROPS)

_KB_HEIGHT, _KB_WIDTH = 352, 1216


def kb_crop_box(height: int, width: int) -> tuple[slice, slice]:
    """Return KITTI's benchmark frame: the bottom 352 rows and the central 1216 columns.

    Raises:
        InputError: The image is smaller than the frame.
    """
    if height < _KB_HEIGHT or width < _KB_WIDTH:
        raise InputError(
            f"a frame of {height}x{width} (height x width) is too small for KITTI's crop of "
            f"{_KB_HEIGHT}x{_KB_WIDTH}"
        )
    left = (width - _KB_WIDTH) // 2
    return slice(height - _KB_HEIGHT, height), slice(left, left + _KB_WIDTH)


def depth_crop_mask(crop: str, shape: tuple[int, ...]) -> np.ndarray:
    """Mark the part of the frame that a benchmark scores.

    Args:
        crop: One of `DEPTH_CROPS`. "nyu" is absolute, for frames of 480x640; "garg" and "eigen"
            are relative, for frames of `kb_crop_box`.
        shape: Frame size as (height, width).

    Returns:
        (height, width) bool.

    Raises:
        InputError: The crop is unknown.
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
    """Mark the pixels to score: inside the crop, with ground truth strictly between the limits.

    Args:
        target: (H, W) ground truth in meters, 0 where unknown.
        crop: One of `DEPTH_CROPS`.
        min_depth, max_depth: Limits in meters.
    """
    return (target > min_depth) & (target < max_depth) & depth_crop_mask(crop, target.shape)


def clean_depth(
    pred: np.ndarray, *, min_depth: float, max_depth: float
) -> tuple[np.ndarray, int, int]:
    """Replace infinity by `max_depth` and NaN by `min_depth`; other values stay unclamped.

    Returns:
        The cleaned copy, the number of NaN pixels and the number of infinite pixels.
    """
    nan, infinite = np.isnan(pred), np.isinf(pred)
    cleaned = np.where(infinite, max_depth, np.where(nan, min_depth, pred)).astype(pred.dtype)
    return cleaned, int(nan.sum()), int(infinite.sum())


def compute_depth_metrics(
    pred: np.ndarray, target: np.ndarray, mask: np.ndarray
) -> dict[str, float]:
    """Compute the depth metrics of one image in float64.

    d1, d2 and d3 are the fractions of pixels whose ratio to the ground truth is below 1.25, 1.25^2
    and 1.25^3. Of e = ln(pred) - ln(target), silog is sqrt(mean(e^2) - mean(e)^2 / 2), as in the
    official code, and silog_bts is 100 sqrt(mean(e^2) - mean(e)^2), as in BTS. A prediction of zero
    or less makes logarithms infinite or NaN.

    Args:
        pred, target: (H, W) depths in meters.
        mask: (H, W) bool, the pixels to score.

    Returns:
        The value of each of `DEPTH_METRICS`; NaN if the mask is empty.
    """
    if not mask.any():
        return dict.fromkeys(DEPTH_METRICS, float("nan"))
    pred, target = pred[mask].astype(np.float64), target[mask].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(target / pred, pred / target)
        error, log_error = pred - target, np.log(pred) - np.log(target)
        values = (
            *(np.mean(ratio < 1.25**power) for power in (1, 2, 3)),
            np.mean(np.abs(error) / target),
            np.mean(error**2 / target),
            np.sqrt(np.mean(error**2)),
            np.sqrt(np.mean(log_error**2)),
            np.mean(np.abs(log_error)) / np.log(10),
            np.sqrt(np.mean(log_error**2) - 0.5 * np.mean(log_error) ** 2),
            100 * np.std(log_error),
        )
    return dict(zip(DEPTH_METRICS, map(float, values), strict=True))
