"""Losses as plain functions of tensors; each returns a scalar."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..utils.errors import InputError


def mean_cross_entropy(logits: Tensor, labels: Tensor, *, ignore_value: int = 255) -> Tensor:
    """Compute the cross-entropy averaged over *all* pixels, ignored ones included.

    Ignored pixels add nothing to the sum but count in the mean. The official recipe trains with
    this (docs/method.md#segmentation-losses).

    Args:
        logits: Logits (N, K, H, W).
        labels: Labels (N, H, W): classes 0..K-1 or `ignore_value`.
    """
    return F.cross_entropy(logits, labels, ignore_index=ignore_value, reduction="none").mean()


def lovasz_softmax(logits: Tensor, labels: Tensor, *, ignore_value: int = 255) -> Tensor:
    """Compute the Lovasz-Softmax loss of a batch, the mean over the classes in the labels.

    See M. Berman et al., "The Lovasz-Softmax loss", CVPR 2018 (arXiv 1705.08790). A batch without
    labeled pixels gives 0 with zero gradient.

    Args:
        logits: Logits (N, K, H, W).
        labels: Labels (N, H, W): classes 0..K-1 or `ignore_value`.
    """
    probabilities = logits.softmax(dim=1).permute(1, 0, 2, 3).flatten(1)  # (K, pixels)
    labels = labels.flatten()
    # Ignored pixels have an error of 0, sort last and aren't foreground: they change neither the
    # Jaccard index of the pixels before them nor the sum. Masking them keeps the shapes fixed, so
    # that nothing waits for the device.
    valid = labels != ignore_value
    classes = torch.arange(len(probabilities), device=labels.device)
    if labels.device.type == "cpu":  # without waiting; sorting dominates
        classes = classes[torch.isin(classes, labels)]
        probabilities = probabilities[classes]
    foreground = ((labels == classes[:, None]) & valid).to(probabilities.dtype)
    errors = (foreground - probabilities).abs() * valid
    errors, order = errors.sort(dim=1, descending=True)
    losses = (errors * _lovasz_gradient(foreground.gather(1, order))).sum(dim=1)
    present = foreground.any(dim=1)
    return (losses * present).sum() / present.sum().clamp(min=1)


def _lovasz_gradient(foreground: Tensor) -> Tensor:
    """Compute the gradient of the Jaccard loss's Lovasz extension with respect to sorted errors.

    `foreground` (K, pixels) holds 0 and 1, from the largest to the smallest error.
    """
    total = foreground.sum(dim=1, keepdim=True)
    intersection = total - foreground.cumsum(dim=1)
    union = total + (1 - foreground).cumsum(dim=1)
    jaccard = 1 - intersection / union
    return torch.cat([jaccard[:, :1], jaccard.diff(dim=1)], dim=1)


def silog_loss(pred: Tensor, target: Tensor, *, mean_weight: float = 0.5) -> Tensor:
    """Compute the scale-invariant logarithmic loss sqrt(mean(g^2) - mean_weight * mean(g)^2).

    g = ln(target) - ln(pred) over the valid pixels of the whole batch. See D. Eigen et al., "Depth
    Map Prediction from a Single Image using a Multi-Scale Deep Network", NIPS 2014 (arXiv
    1406.2283); the official recipe adds the square root (docs/method.md#depth-loss). A batch
    without valid pixels and a perfect prediction give 0 with zero gradient, where the official code
    gives NaN.

    Args:
        pred: Depth in meters, above 0.
        target: Ground truth of the same shape in meters; pixels above 0 are valid.
        mean_weight: Weight lambda, from 0 (no invariance to scale) to 1 (full invariance).

    Raises:
        InputError: The shapes differ.
    """
    if pred.shape != target.shape:
        raise InputError(f"depth is {tuple(pred.shape)} where its target is {tuple(target.shape)}")
    # Sums of masked maps keep the shapes fixed, so that nothing waits for the device.
    valid = target > 0
    difference = torch.where(valid, target, 1).log() - torch.where(valid, pred, 1).log()
    count = valid.sum().clamp(min=1)
    variance = difference.square().sum() / count
    variance = variance - mean_weight * (difference.sum() / count).square()
    # The square root has no finite gradient at 0, and rounding may even give less.
    vanishes = variance <= 0
    return torch.where(vanishes, 0, torch.where(vanishes, 1, variance).sqrt())


def weighted_heatmap_mse(pred: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Compute the mean of weight * (pred - target)^2 over all elements.

    Elements of weight 0 count in the mean: a batch with few labeled keypoints has a small loss.
    With weights of 0 and 1 this is ViTPose's loss, which squares the weights, too.

    Args:
        pred, target: Heatmaps (N, J, h, w).
        weights: Keypoint weights (N, J).

    Raises:
        InputError: The shapes differ.
    """
    _check_heatmaps(pred, target)
    return (weights[..., None, None] * (pred - target).square()).mean()


def heatmap_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Compute the cross-entropy of a keypoint's position, a softmax over the pixels of its map.

    The targets are normalized to a distribution.

    Args:
        logits, target: Heatmaps (N, J, h, w); the targets aren't negative.
        weights: Keypoint weights (N, J).

    Returns:
        The weighted mean over keypoints, 0 if all weights are 0.

    Raises:
        InputError: The shapes differ.
    """
    _check_heatmaps(logits, target)
    target = target.flatten(2)
    shares = target / target.sum(dim=2, keepdim=True).clamp(min=torch.finfo(target.dtype).tiny)
    losses = -(shares * logits.flatten(2).log_softmax(dim=2)).sum(dim=2)
    return (losses * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def _check_heatmaps(pred: Tensor, target: Tensor) -> None:
    if pred.shape != target.shape:
        raise InputError(
            f"heatmaps are {tuple(pred.shape)} where their targets are {tuple(target.shape)}"
        )
