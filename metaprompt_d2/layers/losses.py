"""Losses as plain functions."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..utils.errors import InputError

__all__ = [
    "heatmap_cross_entropy",
    "lovasz_softmax",
    "mean_cross_entropy",
    "silog_loss",
    "weighted_heatmap_mse",
]


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


def silog_loss(pred: Tensor, target: Tensor, *, mean_weight: float = 0.5) -> Tensor:
    """Scale-invariant logarithmic loss sqrt(mean(g^2) - mean_weight * mean(g)^2).

    g = ln(target) - ln(pred) over the valid pixels of the whole batch. D. Eigen et al., "Depth Map
    Prediction from a Single Image using a Multi-Scale Deep Network", NIPS 2014 (arXiv 1406.2283),
    with a square root, as the official recipe trains (method section 2.5). A batch without one
    valid pixel, and a perfect prediction, give 0 with zero gradient; both are NaN there.

    Args:
        pred: depth in metres, above 0.
        target: of the same shape, in metres; valid where above 0, without an upper bound.
        mean_weight: lambda, from 0 (no invariance to scale) to 1 (full invariance).

    Returns:
        scalar.

    Raises:
        InputError: shapes that differ.
    """
    if pred.shape != target.shape:
        raise InputError(f"depth is {tuple(pred.shape)} where its target is {tuple(target.shape)}")
    # Sums over masked maps keep the shapes fixed, so that nothing waits for the device.
    valid = target > 0
    difference = torch.where(valid, target, 1).log() - torch.where(valid, pred, 1).log()
    count = valid.sum().clamp(min=1)
    variance = difference.square().sum() / count
    variance = variance - mean_weight * (difference.sum() / count).square()
    # The square root has no finite gradient at 0; rounding may even lead below it.
    vanishes = variance <= 0
    return torch.where(vanishes, 0, torch.where(vanishes, 1, variance).sqrt())


def weighted_heatmap_mse(pred: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean of (weight * (pred - target))^2 over all elements, those of weight 0 included.

    ViTPose's loss (method section 5.2): a batch with few labelled keypoints has a small one.

    Args:
        pred, target: (N, J, h, w).
        weights: (N, J).

    Returns:
        scalar.

    Raises:
        InputError: shapes that differ.
    """
    _check_heatmaps(pred, target)
    return (weights[..., None, None] * (pred - target)).square().mean()


def heatmap_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy between the places of a keypoint, softmax of a map, and its normalised target.

    Args:
        logits: (N, J, h, w).
        target: (N, J, h, w), 0 and above.
        weights: (N, J); the mean is over keypoints by weight, 0 without any.

    Returns:
        scalar.

    Raises:
        InputError: shapes that differ.
    """
    _check_heatmaps(logits, target)
    target = target.flatten(2)
    shares = target / target.sum(dim=2, keepdim=True).clamp(min=torch.finfo(target.dtype).tiny)
    losses = -(shares * logits.flatten(2).log_softmax(dim=2)).sum(dim=2)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def _check_heatmaps(pred: Tensor, target: Tensor) -> None:
    if pred.shape != target.shape:
        raise InputError(
            f"heatmaps are {tuple(pred.shape)} where their targets are {tuple(target.shape)}"
        )
