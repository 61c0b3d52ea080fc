"""`UDPHeatmapCodec`: encode keypoints as Gaussian heatmaps, and decode heatmaps to keypoints.

Targets and decoding are ViTPose's (docs/method.md#vitpose-recipe). Targets are Gaussians on UDP's
grid with sub-pixel centers. The decoded position is the maximum, refined by one Newton step on the
logarithm of the smoothed map, as in F. Zhang et al., "Distribution-Aware Coordinate Representation
for Human Pose Estimation", CVPR 2020 (arXiv 1910.06278), in the form of arXiv 1911.07524.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..utils.errors import InputError

# Bounds of the smoothed map before its logarithm; term that keeps its Hessian invertible.
_LOG_RANGE = (1e-3, 50.0)
_HESSIAN_EPS = 1.19e-7


class UDPHeatmapCodec:
    """Encodes a person's keypoints as heatmaps and decodes heatmaps to keypoints."""

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
            crop_size, heatmap_size: Sizes as (height, width) in pixels.
            sigma: Standard deviation of the Gaussians in pixels of the heatmap; cut off at 3 sigma.
            blur_kernel: Kernel size of the smoothing before decoding, an odd number of pixels of
                the heatmap. With 0 the maximum isn't refined.

        Raises:
            InputError: A size, sigma or the kernel is impossible.
        """
        if min(*crop_size, *heatmap_size) < 2:
            raise InputError(
                f"crops of {crop_size} and heatmaps of {heatmap_size} (height, width): expected at "
                "least 2 pixels a side"
            )
        if not sigma > 0:
            raise InputError(f"sigma is {sigma}, expected more than 0")
        if blur_kernel < 0 or (blur_kernel and blur_kernel % 2 == 0):
            raise InputError(f"blur_kernel is {blur_kernel}, expected an odd number or 0")
        self.crop_size = (crop_size[0], crop_size[1])  # LazyConfigs give lists
        self.heatmap_size = (heatmap_size[0], heatmap_size[1])
        self.sigma = sigma
        self.blur_kernel = blur_kernel
        # Pixels of the crop for one of the heatmap, x then y.
        self.stride = (np.array(crop_size[::-1]) - 1) / (np.array(heatmap_size[::-1]) - 1)

    def encode(self, keypoints: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode one person's keypoints.

        Args:
            keypoints: Keypoints (J, 2) in pixels of the crop, x then y.
            visible: Mask (J,) of the labeled keypoints.

        Returns:
            Heatmaps (J, h, w) in float32 with maximum 1, and weights (J,) in float32, which are 0
            for keypoints that aren't labeled or whose Gaussian lies outside.
        """
        height, width = self.heatmap_size
        mean = np.asarray(keypoints, np.float64) / self.stride  # (J, 2)
        reach = self.sigma * 3
        # Truncated as in the reference, which matters for points left of or above the map.
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
        """Decode heatmaps (N, J, h, w).

        Returns:
            Keypoints (N, J, 2) in pixels of the crop, x then y, and their scores (N, J), the
            maxima. The keypoint of a map without positive values is the crop's first pixel; that of
            a map with NaN is NaN, and its score too.

        Raises:
            InputError: The heatmaps have another size.
        """
        if tuple(heatmaps.shape[-2:]) != self.heatmap_size:
            raise InputError(
                f"heatmaps are {tuple(heatmaps.shape[-2:])}, expected {self.heatmap_size} "
                "(height, width)"
            )
        heatmaps = heatmaps.float()
        scores, indices = heatmaps.flatten(2).max(dim=2)
        width = self.heatmap_size[1]
        peaks = torch.stack([indices % width, indices // width], dim=-1)
        points = self._refine(heatmaps, peaks) if self.blur_kernel else peaks.float()
        points = torch.where(scores[..., None] > 0, points, 0)
        points = torch.where(scores[..., None].isnan(), torch.nan, points)
        return points * points.new_tensor(self.stride), scores

    def _refine(self, heatmaps: Tensor, peaks: Tensor) -> Tensor:
        """Take one Newton step from the maxima (N, J, 2) of heatmaps, in their pixels.

        Where the smoothing kernel fits into the map, this is the reference's step. Near the border
        the reference mirrors the map, which moves keypoints outwards by up to 1.5 pixels; here the
        kernel shrinks.
        """
        last = peaks.new_tensor(self.heatmap_size[::-1]) - 1
        starts = peaks.clamp(peaks.new_tensor(1), (last - 1).clamp(min=0))
        logs = _log_around(heatmaps, starts[..., 0], starts[..., 1], self.blur_kernel)
        points = starts - _newton_step(logs)
        half = self.blur_kernel // 2
        inner = ((peaks > half) & (peaks < last - half)).all(dim=-1, keepdim=True)
        # There is less smoothing near the border, and an uneven map could move the keypoint far.
        return torch.where(inner, points, points.clamp(peaks - 1.0, peaks + 1.0))


def average_with_mirrored(
    heatmaps: Tensor, mirrored: Tensor, flip_indices: Sequence[int]
) -> Tensor:
    """Average heatmaps (N, J, h, w) with those of the mirrored crop: UDP's grid needs no shift.

    `flip_indices` has the index of each keypoint's counterpart in the mirror image.
    """
    return (heatmaps + mirrored[:, list(flip_indices)].flip(-1)) / 2


def _log_around(maps: Tensor, columns: Tensor, rows: Tensor, kernel_size: int) -> Tensor:
    """Compute the logarithm of smoothed maps (N, J, h, w) at 3x3 pixels of each: (N, J, 3, 3).

    The smoothing kernel is a Gaussian with OpenCV's sigma for its size. Where it would reach beyond
    the map, it is smaller along that axis, so that it averages over true neighbors only.
    """
    half = kernel_size // 2
    height, width = maps.shape[-2:]
    kernels = _smoothing_kernels(half).to(maps)
    size = kernels.shape[-1]
    steps = torch.arange(size, device=maps.device) - size // 2

    def along(places: Tensor, length: int) -> tuple[Tensor, Tensor]:
        reach = torch.minimum(places, length - 1 - places).sub(1).clamp(0, half)
        return kernels[reach], (places[..., None] + steps).clamp(0, length - 1)

    x_kernels, x = along(columns, width)
    y_kernels, y = along(rows, height)
    pixels = y[..., :, None] * width + x[..., None, :]  # (N, J, size, size)
    patches = maps.flatten(2).gather(2, pixels.flatten(2)).view(pixels.shape)
    smoothed = y_kernels @ patches @ x_kernels.transpose(-1, -2)
    return smoothed.clamp(*_LOG_RANGE).log()


def _smoothing_kernels(half: int) -> Tensor:
    """Make kernels of each half size, centered on three neighbors: (half + 1, 3, 2 half + 3)."""
    steps = torch.arange(-half - 1, half + 2, dtype=torch.float64)
    kernels = []
    for reach in range(half + 1):
        sigma = 0.3 * (reach - 1) + 0.8
        for middle in (-1, 0, 1):
            distance = (steps - middle).abs()
            kernel = torch.exp(-(distance**2) / (2 * sigma**2)) * (distance <= reach)
            kernels.append(kernel / kernel.sum())
    return torch.stack(kernels).view(half + 1, 3, -1)


def _newton_step(logs: Tensor) -> Tensor:
    """Compute Hessian^-1 gradient at the center of (N, J, 3, 3): (N, J, 2), x then y."""
    before, above, _, left, middle, right, _, below, after = logs.flatten(-2).unbind(-1)
    gradient = torch.stack([right - left, below - above], dim=-1) / 2
    dxx = right - 2 * middle + left + _HESSIAN_EPS
    dyy = below - 2 * middle + above + _HESSIAN_EPS
    dxy = (after - right - below + 2 * middle - left - above + before) / 2
    determinant = dxx * dyy - dxy**2
    x, y = gradient.unbind(-1)
    step = torch.stack([dyy * x - dxy * y, dxx * y - dxy * x], dim=-1)
    # A flat map has no second derivative, and no step.
    return torch.where(determinant[..., None].abs() > 0, step / determinant[..., None], 0)
