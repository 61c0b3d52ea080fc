"""`UDPHeatmapCodec`: joints of a crop to Gaussian heatmaps, and heatmaps to joints.

Targets and decoding are those of ViTPose (method section 5.2): sub-pixel Gaussians on UDP's grid;
the position is the maximum, refined by one Newton step on the logarithm of the smoothed map: F.
Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020
(arXiv 1910.06278), in the form of arXiv 1911.07524.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["UDPHeatmapCodec", "average_with_mirrored"]

# Bounds of the smoothed map before its logarithm, and what keeps its Hessian invertible.
_LOG_RANGE = (1e-3, 50.0)
_HESSIAN_EPS = 1.19e-7


class UDPHeatmapCodec:
    """Encodes a person's joints as heatmaps and decodes heatmaps to joints."""

    def __init__(
        self,
        crop_size: tuple[int, int],
        heatmap_size: tuple[int, int],
        *,
        sigma: float = 2.0,
        blur_kernel: int = 11,
    ):
        """
        Args:
            crop_size, heatmap_size: (height, width) in pixels.
            sigma: of the Gaussians, in pixels of the heatmap; they end at 3 sigma.
            blur_kernel: of the smoothing before decoding, odd, in pixels of the heatmap; 0 takes
                the maximum as it is, without sub-pixel refinement.

        Raises:
            ValueError: sizes, a sigma or a kernel that mean nothing.
        """
        if min(*crop_size, *heatmap_size) < 2:
            raise ValueError(
                f"crops of {crop_size} and heatmaps of {heatmap_size} (height, width): expected at "
                "least 2 pixels a side"
            )
        if not sigma > 0:
            raise ValueError(f"MODEL.HEATMAP_HEAD.SIGMA is {sigma}, expected more than 0")
        if blur_kernel < 0 or (blur_kernel and blur_kernel % 2 == 0):
            raise ValueError(
                f"MODEL.HEATMAP_HEAD.BLUR_KERNEL is {blur_kernel}, expected an odd number or 0"
            )
        self.crop_size = tuple(crop_size)
        self.heatmap_size = tuple(heatmap_size)
        self.sigma = sigma
        self.blur_kernel = blur_kernel
        # pixels of the crop for one of the heatmap, x then y
        self.stride = (np.array(crop_size[::-1]) - 1) / (np.array(heatmap_size[::-1]) - 1)

    def encode(self, joints: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Args:
            joints: (J, 2) in the crop's pixels, x then y.
            visible: (J,) bool; joints that are labelled.

        Returns:
            heatmaps (J, h, w) float32 with maximum 1, and weights (J,) float32: 0 for joints that
            are not labelled or whose Gaussian lies outside.
        """
        height, width = self.heatmap_size
        mean = np.asarray(joints, np.float64) / self.stride  # (J, 2)
        reach = self.sigma * 3
        # Truncated, as the reference does; it matters for points left of or above the map.
        center = np.trunc(mean + 0.5)
        limit = np.array([width, height])
        outside = ((center - reach).astype(int) >= limit).any(axis=1)
        outside |= ((center + reach + 1).astype(int) < 0).any(axis=1)
        weights = np.asarray(visible, bool) & ~outside
        factors = [
            np.where(
                np.abs(grid - center[:, axis, None]) <= reach,
                np.exp(-((grid - mean[:, axis, None]) ** 2) / (2 * self.sigma**2)),
                0,
            )
            for axis, grid in enumerate((np.arange(width), np.arange(height)))
        ]
        heatmaps = factors[1][:, :, None] * factors[0][:, None, :] * weights[:, None, None]
        return heatmaps.astype(np.float32), weights.astype(np.float32)

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            heatmaps: (N, J, h, w).

        Returns:
            joints (N, J, 2) in the crop's pixels, x then y, and scores (N, J), the maxima. A map
            without a value above 0 has its joint at the crop's first pixel, with its maximum as
            score.

        Raises:
            ValueError: heatmaps of another size.
        """
        if tuple(heatmaps.shape[-2:]) != self.heatmap_size:
            raise ValueError(
                f"heatmaps are {tuple(heatmaps.shape[-2:])}, expected {self.heatmap_size} "
                "(height, width)"
            )
        heatmaps = heatmaps.float()
        scores, indices = heatmaps.flatten(2).max(dim=2)
        width = self.heatmap_size[1]
        columns, rows = indices % width, indices // width
        points = torch.stack([columns, rows], dim=-1).float()
        if self.blur_kernel:
            points = points - _newton_step(_smooth_log(heatmaps, self.blur_kernel), columns, rows)
        points = torch.where(scores[..., None] > 0, points, 0)
        return points * points.new_tensor(self.stride), scores


def average_with_mirrored(
    heatmaps: Tensor, mirrored: Tensor, flip_indices: Sequence[int]
) -> Tensor:
    """Average heatmaps with those of the mirrored crop, neither shifted.

    On UDP's grid the mirror image needs no shift.

    Args:
        heatmaps, mirrored: (N, J, h, w).
        flip_indices: the joint that each one becomes in the mirror.
    """
    return (heatmaps + mirrored[:, list(flip_indices)].flip(-1)) / 2


def _smooth_log(heatmaps: Tensor, kernel_size: int) -> Tensor:
    """Logarithm of the map after a Gaussian of OpenCV's sigma for this kernel size."""
    sigma = 0.3 * ((kernel_size - 1) * 0.5 - 1) + 0.8
    half = kernel_size // 2
    grid = torch.arange(-half, half + 1, device=heatmaps.device, dtype=heatmaps.dtype)
    kernel = torch.exp(-(grid**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    maps = heatmaps.flatten(0, 1)[:, None]
    # Reflection needs a map larger than the kernel's half; smaller ones repeat their edge.
    mode = "reflect" if min(maps.shape[-2:]) > half else "replicate"
    maps = F.conv2d(F.pad(maps, (half, half, 0, 0), mode), kernel.view(1, 1, 1, -1))
    maps = F.conv2d(F.pad(maps, (0, 0, half, half), mode), kernel.view(1, 1, -1, 1))
    return maps[:, 0].unflatten(0, heatmaps.shape[:2]).clamp(*_LOG_RANGE).log()


def _newton_step(log_maps: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Hessian^-1 gradient of (N, J, h, w) maps at one pixel each; (N, J, 2), x then y."""
    padded = F.pad(log_maps, (1, 1, 1, 1), "replicate")
    width = padded.shape[-1]
    flat = padded.flatten(2)
    origin = (rows + 1) * width + columns + 1

    def at(dx: int, dy: int) -> Tensor:
        return flat.gather(2, (origin + dy * width + dx)[..., None])[..., 0]

    middle = at(0, 0)
    gradient = torch.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)], dim=-1) / 2
    dxx = at(1, 0) - 2 * middle + at(-1, 0)
    dyy = at(0, 1) - 2 * middle + at(0, -1)
    dxy = at(1, 1) - at(1, 0) - at(0, 1) + 2 * middle - at(-1, 0) - at(0, -1) + at(-1, -1)
    dxx, dyy, dxy = dxx + _HESSIAN_EPS, dyy + _HESSIAN_EPS, dxy / 2
    determinant = dxx * dyy - dxy**2
    step = torch.stack(
        [
            dyy * gradient[..., 0] - dxy * gradient[..., 1],
            dxx * gradient[..., 1] - dxy * gradient[..., 0],
        ],
        dim=-1,
    )
    # A flat map has no second derivative to step by.
    return torch.where(determinant[..., None].abs() > 0, step / determinant[..., None], 0)
