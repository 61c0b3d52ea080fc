"""Arrange pictures, (H, W, 3) uint8 RGB, in rows and columns with titles."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

WHITE = 255
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP = 4  # pixels between pictures


def stack_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Stack rows of pictures with gaps between them; fill narrow ones up with white."""
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0)), constant_values=WHITE)
        for row in rows
    ]
    return np.vstack(padded)


def side_by_side(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Join pictures of the same height with gaps between them."""
    gap = np.full((columns[0].shape[0], _GAP, 3), WHITE, np.uint8)
    return np.hstack([part for column in columns for part in (column, gap)][:-1])


def titled_row(pictures: Mapping[str, np.ndarray]) -> np.ndarray:
    """Join pictures, each below its title."""
    return side_by_side([with_title(picture, title) for title, picture in pictures.items()])


def title_height(image: np.ndarray) -> int:
    """Return the height of a title in pixels, which grows with the image."""
    return max(14, image.shape[0] // 14)


def with_title(picture: np.ndarray, title: str) -> np.ndarray:
    """Put a title above a picture, in smaller letters if it is wider than the picture."""
    height = title_height(picture)
    bar = np.full((height, picture.shape[1], 3), WHITE, np.uint8)
    write_text(bar, title, (2, int(height * 0.75)), height)
    return np.vstack([bar, picture])


def write_text(picture: np.ndarray, text: str, origin: tuple[int, int], height: int) -> None:
    """Write black text in place, no wider than the picture.

    Args:
        picture: (H, W, 3) uint8 RGB.
        text: One line.
        origin: Baseline (x, y) of the first letter.
        height: Height of the line, which the letters fill if their width allows it.
    """
    scale = height / 33
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    scale *= min(1, (picture.shape[1] - 2 * origin[0] - 1) / max(width, 1))
    cv2.putText(picture, text, origin, _FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
