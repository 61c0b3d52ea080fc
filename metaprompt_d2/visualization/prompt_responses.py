"""Draw the responses of prompts and the changes between refinement steps.

All functions return (H, W, 3) uint8 RGB.
"""

from collections.abc import Sequence
from itertools import zip_longest

import cv2
import numpy as np

from .depth import color_mapped
from .layout import WHITE, side_by_side, stack_rows, with_title

_RESPONSE_COLORS = cv2.COLORMAP_INFERNO
_CHANGE_COLORS = cv2.COLORMAP_MAGMA
_OPACITY = 0.75


def response_range(responses: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the 1st and 99th percentile of several (h, w) maps, as a common range of colors."""
    low, high = np.percentile(np.stack(responses), (1, 99))
    return float(low), float(high)


def draw_response(
    image: np.ndarray, response: np.ndarray, limits: tuple[float, float] | None = None
) -> np.ndarray:
    """Draw a prompt's response over the image, dark for low values, bright for high ones.

    Args:
        image: (H, W, 3) uint8 RGB, shown in gray.
        response: (h, w) map, resized bilinearly to the image.
        limits: Range of the colors (default: the `response_range` of this map).
    """
    low, high = limits or response_range([response])
    enlarged = cv2.resize(response, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colors = color_mapped(enlarged - low, max(high - low, 1e-12), _RESPONSE_COLORS, False)
    return _blend(image, colors)


def draw_change(
    image: np.ndarray, before: np.ndarray, after: np.ndarray, end: float = 2.0
) -> np.ndarray:
    """Draw where a step changed the responses: the root mean square over all prompts.

    Args:
        image: (H, W, 3) uint8 RGB, shown in gray.
        before, after: (num_prompts, h, w) responses of one step and the next. Changes are measured
            in standard deviations of each prompt's map before the step.
        end: Change that gets the brightest color.
    """
    spread = before.std(axis=(1, 2), keepdims=True).clip(min=1e-12)
    change = np.sqrt((((after - before) / spread) ** 2).mean(axis=0))
    change = cv2.resize(change, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return _blend(image, color_mapped(change, end, _CHANGE_COLORS, False))


def draw_prompts(
    image: np.ndarray, responses: np.ndarray, titles: Sequence[str], *, columns: int = 6
) -> np.ndarray:
    """Draw the responses of all prompts in a grid, each with its own range of colors.

    Args:
        image, responses: (H, W, 3) uint8 RGB and (num_prompts, h, w).
        titles: One title per prompt.
        columns: Number of pictures per row.
    """
    drawn = [draw_response(image, response) for response in responses]
    cells = list(zip(titles, drawn, strict=True))
    return draw_table([cells[start : start + columns] for start in range(0, len(cells), columns)])


def draw_table(rows: Sequence[Sequence[tuple[str, np.ndarray | None]]]) -> np.ndarray:
    """Arrange titles and pictures, (H, W, 3) uint8 RGB, in a table; None leaves a gap.

    All pictures have the same height, and those of a column the same width.
    """
    blanks = [
        next(np.full_like(picture, WHITE) for _, picture in column if picture is not None)
        for column in zip_longest(*rows, fillvalue=("", None))
    ]
    titled = [
        [
            with_title(blank if picture is None else picture, title)
            for blank, (title, picture) in zip(blanks, row, strict=False)
        ]
        for row in rows
    ]
    return stack_rows([side_by_side(row) for row in titled])


def _blend(image: np.ndarray, colors: np.ndarray) -> np.ndarray:
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(gray, 1 - _OPACITY, colors, _OPACITY, 0)
