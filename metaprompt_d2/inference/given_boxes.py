"""Check the boxes that a user gives."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..utils.errors import InputError, input_errors

AnyBoxes = Sequence[Sequence[float]] | np.ndarray | Tensor


def read_boxes(
    boxes: AnyBoxes,
    name: str,
    *,
    size: tuple[int, int] | None = None,
    num_categories: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Check boxes of people, or of objects of other categories.

    Args:
        boxes: As `Predictor` takes them.
        name: Start of the error messages.
        size: Size of the image as (height, width); None if it isn't known yet.
        num_categories: Number of categories of the model; None if it isn't known yet.

    Returns:
        Corners x0, y0, x1, y1 (K, 4) in float32, and categories (K,) in int64.

    Raises:
        InputError: A box isn't four finite numbers and perhaps the index of a category, has no
            area, or lies outside of the image.
    """
    with input_errors(name, TypeError, ValueError):
        numbers = torch.as_tensor(boxes, dtype=torch.float32, device="cpu")
    if not numbers.numel():
        numbers = numbers.new_zeros(0, 4)
    if numbers.ndim != 2 or numbers.shape[1] not in (4, 5):
        raise InputError(
            f"{name} have shape {tuple(numbers.shape)}, expected x0, y0, x1, y1 of each person, "
            "and perhaps the index of the category"
        )
    height, width = size or (torch.inf, torch.inf)
    number = torch.inf if num_categories is None else num_categories
    for x0, y0, x1, y1, *category in numbers.tolist():
        box = f"{name}: {[x0, y0, x1, y1, *category]}"
        if not (-torch.inf < x0 < x1 < torch.inf and -torch.inf < y0 < y1 < torch.inf):
            raise InputError(
                f"{box}, expected corners x0, y0, x1, y1 with x0 < x1 and y0 < y1, not x, y, width "
                "and height"
            )
        if min(x1, y1) <= 0 or x0 >= width or y0 >= height:
            of = f" of {height}x{width} (height x width)" if size else ""
            raise InputError(f"{box} lies outside of the image{of}")
        if category and not (category[0].is_integer() and 0 <= category[0] < number):
            last = "" if num_categories is None else f" to {num_categories - 1}"
            raise InputError(f"{box}, expected the index of a category, from 0{last}, at its end")
    categories = numbers[:, 4] if numbers.shape[1] == 5 else numbers.new_zeros(len(numbers))
    return numbers[:, :4], categories.long()
