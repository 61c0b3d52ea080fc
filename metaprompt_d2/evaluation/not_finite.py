"""Find, name and report predictions that are NaN or infinite."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from ..metrics import classify_pixels

logger = logging.getLogger(__name__)

_MAX_LISTED = 50  # names in a warning


def describe_not_finite(output: dict[str, Any]) -> str:
    """Say how much of a model's output for an image is NaN or infinite; "" if it is finite."""
    if "sem_seg" in output:
        classes = classify_pixels(output["sem_seg"])
        bad = int((classes < 0).sum())
        return f"{bad} of {classes.size} pixels without a class" if bad else ""
    if "depth" in output:
        nan, infinite = (int(found(output["depth"]).sum()) for found in (torch.isnan, torch.isinf))
        return f"{nan} NaN, {infinite} infinite" if nan or infinite else ""
    if "instances" in output and output["instances"].has("pred_keypoints"):
        finite = output["instances"].pred_keypoints.isfinite().all(dim=-1)
        bad = int((~finite).sum())
        return f"{bad} of {finite.numel()} keypoints" if bad else ""
    return ""


def warn_of(text: str, names: Sequence[str]) -> None:
    """Log how many there are and what is wrong with them, with their names, if there are any."""
    if names:
        rest = len(names) - _MAX_LISTED
        listed = ", ".join(names[:_MAX_LISTED]) + (f" and {rest} more" if rest > 0 else "")
        logger.warning("%d %s: %s", len(names), text, listed)
