"""How pictures stand together: titles, gaps, rows."""

from collections.abc import Sequence

import cv2
import numpy as np

__all__ = ["WHITE", "side_by_side", "stack_rows", "title_height", "with_title", "write_text"]

WHITE = 255
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP = 4  # pixels between pictures


def stack_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of pictures under each other, narrower ones filled with white.

    Args:
        rows: (H_i, W_i, 3) uint8.
    """
    width = max(row.shape[1] for row in rows)
    return np.vstack(
        [
            np.pad(
                row,
                ((0, _GAP), (0, width - row.shape[1]), (0, 0)),
                constant_values=WHITE,
            )
            for row in rows
        ]
    )


def side_by_side(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one height with gaps between them."""
    gap = np.full((columns[0].shape[0], _GAP, 3), WHITE, np.uint8)
    return np.hstack([part for column in columns for part in (column, gap)][:-1])


def title_height(image: np.ndarray) -> int:
    return max(14, image.shape[0] // 14)


def with_title(picture: np.ndarray, title: str) -> np.ndarray:
    height = title_height(picture)
    bar = np.full((height, picture.shape[1], 3), WHITE, np.uint8)
    write_text(bar, title, (2, int(height * 0.75)), height)
    return np.vstack([bar, picture])


def write_text(picture: np.ndarray, text: str, origin: tuple[int, int], height: int) -> None:
    """Black text for a line of `height` pixels, in place; `origin` is (x, y) of its base line."""
    cv2.putText(picture, text, origin, _FONT, height / 33, (0, 0, 0), 1, cv2.LINE_AA)
