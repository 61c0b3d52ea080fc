"""Losses as plain functions."""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["lovasz_softmax", "mean_cross_entropy"]


def mean_cross_entropy(logits: Tensor, labels: Tensor, *, ignore_value: int = 255) -> Tensor:
    """Cross-entropy averaged over *all* pixels, ignored ones included.

    Ignored pixels add nothing to the sum but count in the mean (mmsegmentation 0.30's
    `avg_non_ignore=False`, with which the official recipe trains).

    Args:
        logits: (N, K, H, W).
        labels: (N, H, W), classes 0..K-1 or `ignore_value`.

    Returns:
        scalar.
    """
    return F.cross_entropy(logits, labels, ignore_index=ignore_value, reduction="none").mean()


def lovasz_softmax(logits: Tensor, labels: Tensor, *, ignore_value: int = 255) -> Tensor:
    """Lovasz-Softmax loss over the whole batch, mean over the classes present in the labels.

    M. Berman et al., "The Lovasz-Softmax loss", CVPR 2018 (arXiv 1705.08790). A batch without one
    labelled pixel gives 0 with zero gradient.

    Args:
        logits: (N, K, H, W).
        labels: (N, H, W), classes 0..K-1 or `ignore_value`.

    Returns:
        scalar.
    """
    probabilities = logits.softmax(dim=1).permute(1, 0, 2, 3).flatten(1)  # (K, pixels)
    labels = labels.flatten()
    # Ignored pixels sort last with error 0 and are no foreground: they change neither the
    # Jaccard index of the pixels before them nor the sum. So shapes stay fixed and nothing
    # waits for the device.
    valid = labels != ignore_value
    classes = torch.arange(len(probabilities), device=labels.device)
    if labels.device.type == "cpu":  # nothing to wait for, and sorting dominates
        classes = classes[torch.isin(classes, labels)]
        probabilities = probabilities[classes]
    foreground = ((labels == classes[:, None]) & valid).to(probabilities.dtype)
    errors = (foreground - probabilities).abs() * valid
    errors, order = errors.sort(dim=1, descending=True)
    losses = (errors * _lovasz_gradient(foreground.gather(1, order))).sum(dim=1)
    present = foreground.any(dim=1)
    return (losses * present).sum() / present.sum().clamp(min=1)


def _lovasz_gradient(foreground: Tensor) -> Tensor:
    """Gradient of the Lovasz extension of the Jaccard loss with respect to sorted errors.

    Args:
        foreground: (K, pixels) of 0 and 1, in the order of falling errors.
    """
    total = foreground.sum(dim=1, keepdim=True)
    intersection = total - foreground.cumsum(dim=1)
    union = total + (1 - foreground).cumsum(dim=1)
    jaccard = 1 - intersection / union
    return torch.cat([jaccard[:, :1], jaccard.diff(dim=1)], dim=1)
