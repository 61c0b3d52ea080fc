"""Classes of pixels from their scores."""

import numpy as np
from torch import Tensor

NO_CLASS = -1


def classify_pixels(scores: Tensor) -> np.ndarray:
    """Choose the class of the highest score for every pixel.

    Args:
        scores: Logits or probabilities (K, H, W).

    Returns:
        Class ids (H, W) as int64; `NO_CLASS` where the highest score is NaN or infinite. It is NaN
        if any score of the pixel is.
    """
    highest, classes = scores.max(dim=0)
    return classes.masked_fill_(~highest.isfinite(), NO_CLASS).cpu().numpy()
