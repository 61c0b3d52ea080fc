"""Augmentations that Detectron2 lacks: resizing into a box, crops and padding."""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, NoOpTransform, PadTransform, Transform

from ..utils.errors import InputError


class CV2ResizeTransform(Transform):
    """Resizes with OpenCV: images bilinear without antialiasing, labels nearest.

    Sizes are (height, width). Detectron2's own `ResizeTransform` filters with PIL, which results in
    other pixels.
    """

    def __init__(self, old_size: tuple[int, int], new_size: tuple[int, int]):
        super().__init__()
        self.old_size = old_size
        self.new_size = new_size

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return cv2.resize(img, self.new_size[::-1], interpolation=cv2.INTER_LINEAR)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return cv2.resize(segmentation, self.new_size[::-1], interpolation=cv2.INTER_NEAREST)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords * np.divide(self.new_size, self.old_size)[::-1]

    def inverse(self) -> Transform:
        return CV2ResizeTransform(self.new_size, self.old_size)


class ResizeToBox(T.Augmentation):
    """Fits the image into a box that is scaled by a random factor, and keeps its aspect ratio.

    This is mmsegmentation's `Resize` with `ratio_range` (docs/method.md#segmentation-data).
    """

    def __init__(
        self, long_side: int, short_side: int, scale_range: tuple[float, float] = (1.0, 1.0)
    ):
        """
        Args:
            long_side, short_side: Sides of the box in pixels, for images of either orientation.
            scale_range: Lowest and highest factor, between which it is uniform.

        Raises:
            InputError: The sides or the range make no box.
        """
        if not 1 <= short_side <= long_side:
            raise InputError(
                f"short_side is {short_side} and long_side {long_side}, expected "
                "1 <= short_side <= long_side"
            )
        if not 0 < scale_range[0] <= scale_range[1]:
            raise InputError(f"scale_range is {scale_range}, expected 0 < low <= high")
        self.long_side = long_side
        self.short_side = short_side
        self.scale_range = scale_range

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        scale = self._rand_range(*self.scale_range)
        box = int(self.long_side * scale), int(self.short_side * scale)
        factor = min(box[0] / max(height, width), box[1] / min(height, width))
        size = max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)
        if size == (height, width):
            return NoOpTransform()
        return CV2ResizeTransform((height, width), size)


class CropOfSeveralClasses(T.RandomCrop_CategoryAreaConstraint):
    """Draws the same crops as its base, but counts labels in a histogram instead of sorting them.

    For each of up to ten windows of 1024x1024 labels this takes 0.6 ms instead of 10 ms. Without
    labels the crops are random.
    """

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray | None) -> Transform:
        if sem_seg is None:
            return self.crop_aug.get_transform(image)
        if self.single_category_max_area >= 1 or sem_seg.dtype != np.uint8:
            return super().get_transform(image, sem_seg)
        height, width = sem_seg.shape
        for _ in range(10):
            rows, columns = self.crop_aug.get_crop_size((height, width))
            top = np.random.randint(height - rows + 1)
            left = np.random.randint(width - columns + 1)
            window = sem_seg[top : top + rows, left : left + columns]
            counts = cv2.calcHist([window], [0], None, [256], [0, 256]).astype(np.int64)
            if self.ignored_category in range(256):
                counts[self.ignored_category] = 0
            largest = counts.sum() * self.single_category_max_area
            if np.count_nonzero(counts) > 1 and counts.max() < largest:
                break
        return CropTransform(left, top, columns, rows)


class _ChannelPadTransform(PadTransform):
    """Pads each channel of images with its own value, in float32: means are seldom integers."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        padding = (self.y0, self.y1, self.x0, self.x1, cv2.BORDER_CONSTANT)
        return cv2.copyMakeBorder(img.astype(np.float32), *padding, value=tuple(self.pad_value))


class PadToSize(T.Augmentation):
    """Pads images smaller than a size, at the bottom and the right."""

    def __init__(self, size: tuple[int, int], pad_value: Sequence[float], ignore_value: int = 255):
        """
        Args:
            size: Smallest size of the result as (height, width).
            pad_value: Value of the image per channel, usually its mean, which normalizes to 0.
            ignore_value: Value of the labels.
        """
        self.size = size
        self.pad_value = pad_value
        self.ignore_value = ignore_value

    def get_transform(self, image: np.ndarray) -> Transform:
        rows, columns = np.subtract(self.size, image.shape[:2]).clip(min=0).tolist()
        if rows == columns == 0:
            return NoOpTransform()
        values = {"pad_value": self.pad_value, "seg_pad_value": self.ignore_value}
        return _ChannelPadTransform(0, 0, columns, rows, **values)
