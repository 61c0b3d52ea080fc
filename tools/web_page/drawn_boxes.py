"""Boxes that a visitor draws on an image: two clicks are opposite corners."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from metaprompt_d2.data.readers import read_image
from metaprompt_d2.utils.errors import InputError

from .sizes import enlarge, shrink

__all__ = ["DrawnBoxes"]

_BLACK, _GREEN = (0, 0, 0), (0, 230, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class DrawnBoxes(NamedTuple):
    """Boxes on an image, for a model of some categories."""

    file: str | None = None  # the image
    categories: tuple[str, ...] = ()
    # Corners x0, y0, x1, y1 in pixels of the file, and the index of the category.
    boxes: tuple[tuple[float, float, float, float, int], ...] = ()
    corner: tuple[float, float] | None = None  # x, y of a box whose opposite corner is missing

    def clicked(self, x: float, y: float, category: int) -> "DrawnBoxes":
        """Add a corner.

        Args:
            x, y: Place of the click in pixels of `picture()`.
            category: Index of the category, which counts for the second corner of a box.

        Raises:
            InputError: Both corners of a box are in one row or column.
        """
        shown, (height, width) = _read(self.file)
        point = x * width / shown.shape[1], y * height / shown.shape[0]
        if self.corner is None:
            return self._replace(corner=point)
        (x0, x1), (y0, y1) = map(sorted, zip(self.corner, point, strict=True))
        if x0 == x1 or y0 == y1:
            raise InputError("This box has no area: click its opposite corner.")
        return self._replace(boxes=(*self.boxes, (x0, y0, x1, y1, category)), corner=None)

    def picture(self) -> np.ndarray:
        """Draw the boxes, with their names if there are several, on the image.

        Returns:
            (h, w, 3) uint8 RGB, of the size in which the page shows the image.

        Raises:
            InputError: The image cannot be read.
        """
        shown, (height, width) = _read(self.file)
        picture, pixel = shown.copy(), np.array([shown.shape[1] / width, shown.shape[0] / height])
        line = max(shown.shape) // 250  # pixels, as the page shrinks the picture
        for color, thickness in ((_BLACK, line + 2), (_GREEN, line)):
            for x0, y0, x1, y1, category in self.boxes:
                start, end = ([x0, y0] * pixel).astype(int), ([x1, y1] * pixel).astype(int)
                cv2.rectangle(picture, start, end, color, thickness)
                if len(self.categories) > 1:
                    text = self.categories[category], start + [3 * line, 12 * line], _FONT
                    cv2.putText(picture, *text, line / 3, color, thickness - line // 2)
            if self.corner is not None:
                place = (self.corner * pixel).astype(int)
                cv2.drawMarker(picture, place, color, cv2.MARKER_CROSS, 12 * line, thickness)
        return picture


@lru_cache(maxsize=8)
def _read(file: str) -> tuple[np.ndarray, tuple[int, int]]:
    """Read an image as the page shows it, and its own size as (height, width)."""
    image = read_image(file, "RGB")
    return enlarge(shrink(image)), image.shape[:2]
