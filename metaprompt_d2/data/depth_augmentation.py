"""Augmentations of an image together with its depth map (docs/method.md#depth-augmentation)."""

from functools import partial

import cv2
import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, NoOpTransform, Transform

from ..metrics import kb_crop_box
from ..utils.errors import InputError
from .color_augmentation import HSVTables


class DepthAugInput(T.AugInput):
    """An image and optionally its depth map, which are transformed alike.

    Depth passes through `Transform.apply_segmentation`. Resizing takes it from the nearest pixel,
    so that no depth is invented at edges.
    """

    def __init__(
        self, image: np.ndarray, *, depth: np.ndarray | None = None, depth_scale: float = 1.0
    ):
        """
        Args:
            image: Image (H, W, 3) of uint8.
            depth: Depth (H, W) of float32 in meters, 0 = no value.
            depth_scale: Factor on meters in the depth file.
        """
        super().__init__(image)
        self.depth = depth
        self.depth_scale = depth_scale

    def transform(self, tfm: Transform) -> None:
        super().transform(tfm)
        if self.depth is not None:
            self.depth = tfm.apply_segmentation(self.depth)


class CutDepth(T.Augmentation):
    """Overwrites a random vertical strip of the image with its depth map.

    See Ishii and Yamashita, 2021 (arXiv 2107.07684). Depth recipes use strips of full height, which
    start at column a * W and are 0.75 * b * (W - a * W) wide, with a and b uniform in [0, 1).
    """

    def __init__(self, max_depth: float, *, max_share: float = 0.75, wrap_around: bool = False):
        """
        Args:
            max_depth: Depth in meters that is pasted as 255. Smaller depths are proportional,
                larger ones are 255.
            max_share: Largest share of the columns right of the strip's start that it covers.
            wrap_around: Whether to paste the depth file's own 16-bit values modulo 256 instead, as
                the official code does. `max_depth` is unused then.

        Raises:
            InputError: The depth or the share is out of its range.
        """
        if not max_depth > 0:
            raise InputError(f"max_depth is {max_depth}, expected meters above 0")
        if not 0 < max_share <= 1:
            raise InputError(f"max_share is {max_share}, expected 0 < max_share <= 1")
        self.max_depth = max_depth
        self.max_share = max_share
        self.wrap_around = wrap_around

    def get_transform(self, image: np.ndarray, depth: np.ndarray, depth_scale: float) -> Transform:
        width = image.shape[1]
        start, extent = self._rand_range(size=2)
        left = int(start * width)
        columns = int(max((width - start * width) * extent * self.max_share, 1))
        strip = depth[:, left : left + columns]
        if self.wrap_around:
            values = np.rint(strip * depth_scale).astype(np.int64) % 256
        else:
            values = np.clip(strip / self.max_depth, 0, 1) * 255
        return T.ColorTransform(partial(_paste, left=left, strip=values.astype(np.uint8)))


def _paste(img: np.ndarray, left: int, strip: np.ndarray) -> np.ndarray:
    """Overwrite the columns from `left` with a strip (H, columns), in all channels."""
    pasted = img.copy()
    pasted[:, left : left + strip.shape[1]] = strip[..., None]
    return pasted


class EveryNth(T.Augmentation):
    """Applies an augmentation to the 1st, (n+1)th, (2n+1)th, ... input that this object sees.

    Every worker of a loader has its own object and counts from its start. A resumed run therefore
    differs from an uninterrupted one.
    """

    def __init__(self, augmentation: T.Augmentation, n: int):
        """
        Args:
            augmentation: Augmentation to apply.
            n: Number of inputs from one to the next that is augmented.

        Raises:
            InputError: `n` is less than 1.
        """
        if n < 1:
            raise InputError(f"n is {n}, expected at least 1")
        self.augmentation = augmentation
        self.n = n
        self._seen = 0

    def __call__(self, aug_input: T.AugInput) -> Transform:
        applies = self._seen % self.n == 0
        self._seen += 1
        return self.augmentation(aug_input) if applies else NoOpTransform()


class KBCrop(T.Augmentation):
    """Cuts images to KITTI's benchmark crop, `kb_crop_box`."""

    def get_transform(self, image: np.ndarray) -> Transform:
        rows, columns = kb_crop_box(*image.shape[:2])
        width, height = columns.stop - columns.start, rows.stop - rows.start
        return CropTransform(columns.start, rows.start, width, height)


class RandomWindow(T.RandomCrop):
    """Cuts out a random window of one size, and refuses images that are smaller.

    Detectron2's `RandomCrop` returns smaller windows of them without a warning.
    """

    def __init__(self, size: tuple[int, int]):
        """
        Args:
            size: Size of the window as (height, width).
        """
        super().__init__("absolute", size)

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        rows, columns = self.crop_size
        if height < rows or width < columns:
            raise InputError(
                f"the image is {height}x{width} (height x width), INPUT.CROP.SIZE needs "
                f"{rows}x{columns}"
            )
        return super().get_transform(image)


class BrightnessContrast(T.Augmentation):
    """Maps v to v * (1 + c) + 255 * b, clipped and truncated, with uniform c and b."""

    def __init__(self, brightness: float, contrast: float):
        """
        Args:
            brightness, contrast: Largest absolute values of b and c.
        """
        self.brightness = brightness
        self.contrast = contrast

    def get_transform(self, image: np.ndarray) -> Transform:
        factor = 1 + self._rand_range(-self.contrast, self.contrast)
        offset = self._rand_range(-self.brightness, self.brightness)
        return _table_transform(np.clip(np.arange(256) * factor + 255 * offset, 0, 255))


class Gamma(T.Augmentation):
    """Maps v to 255 * (v / 255) ** gamma, truncated, with a uniform gamma."""

    def __init__(self, gamma_range: tuple[float, float]):
        """
        Args:
            gamma_range: Lowest and highest gamma.

        Raises:
            InputError: Not 0 < lowest <= highest.
        """
        if not 0 < gamma_range[0] <= gamma_range[1]:
            raise InputError(f"gamma_range is {gamma_range}, expected 0 < low <= high")
        self.gamma_range = gamma_range

    def get_transform(self, image: np.ndarray) -> Transform:
        return _table_transform((np.arange(256) / 255) ** self._rand_range(*self.gamma_range) * 255)


def _table_transform(table: np.ndarray) -> T.ColorTransform:
    """Make a transform that looks every value up in a table of 256 values."""
    return T.ColorTransform(partial(cv2.LUT, lut=table.astype(np.uint8)))


class HueSaturationValue(T.Augmentation):
    """Shifts hue (cyclic, 180 = full circle), saturation and value (clipped), truncated."""

    def __init__(self, hue: float, saturation: float, value: float, image_format: str = "RGB"):
        """
        Args:
            hue, saturation, value: Largest absolute values of the uniform shifts.
            image_format: Format "RGB" or "BGR".

        Raises:
            InputError: Another image format.
        """
        self.limits = np.array([hue, saturation, value])
        self.hsv_tables = HSVTables(image_format)

    def get_transform(self, image: np.ndarray) -> Transform:
        shifted = np.arange(256)[:, None] + self._rand_range(-self.limits, self.limits, size=3)
        shifted[:, 0] %= 180
        tables = np.clip(shifted, 0, 255).astype(np.uint8)
        return T.ColorTransform(partial(self.hsv_tables.look_up, tables=tables))
