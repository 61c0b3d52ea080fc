"""Losses against numbers by hand and against the paper's algorithm, written again, slowly."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from metaprompt_d2.layers import (
    heatmap_cross_entropy,
    lovasz_softmax,
    mean_cross_entropy,
    silog_loss,
    weighted_heatmap_mse,
)

IGNORE = 255


def slow_lovasz_softmax(logits: np.ndarray, labels: np.ndarray) -> float:
    """Algorithm 1 of Berman et al. 2018, set by set, class by class."""
    num_classes = logits.shape[1]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    keep = labels.reshape(-1) != IGNORE
    labels = labels.reshape(-1)[keep]
    losses = []
    for k in range(num_classes):
        truth = {int(i) for i in np.flatnonzero(labels == k)}
        if not truth:
            continue
        probability = probabilities[:, k].reshape(-1)[keep]
        errors = [1 - p if i in truth else p for i, p in enumerate(probability)]
        order = sorted(range(len(errors)), key=lambda i: -errors[i])
        loss, jaccard_loss, mispredicted = 0.0, 0.0, set()
        for i in order:
            mispredicted = mispredicted | {i}
            grown = len(mispredicted) / len(truth | mispredicted)  # equation 6 of the paper
            loss += errors[i] * (grown - jaccard_loss)
            jaccard_loss = grown
        losses.append(loss)
    return sum(losses) / len(losses) if losses else 0.0


@st.composite
def segmentations(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Random logits (N, K, H, W) in float64 and labels with ignored pixels."""
    n, k, h, w = (draw(st.integers(1, top)) for top in (2, 4, 4, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = torch.randn(n, k, h, w, generator=generator, dtype=torch.float64) * 3
    labels = torch.randint(k, (n, h, w), generator=generator)
    ignored = torch.rand(n, h, w, generator=generator) < draw(st.sampled_from([0.0, 0.3, 0.9]))
    return logits, labels.masked_fill(ignored, IGNORE)


def test_cross_entropy_counts_ignored_pixels_in_the_mean() -> None:
    # Two classes; probability of the right one: 1/2, 3/4, and two pixels without a label.
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0], [9.0, 0.0], [0.0, 9.0]])
    labels = torch.tensor([1, 0, IGNORE, IGNORE])
    loss = mean_cross_entropy(logits.T.reshape(1, 2, 2, 2), labels.reshape(1, 2, 2))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3) + 0 + 0) / 4)


def test_cross_entropy_ignores_the_value_it_is_given() -> None:
    logits = torch.tensor([0.0, 0.0, 5.0]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    labels = torch.tensor([[[0, 2]]])
    loss = mean_cross_entropy(logits, labels, ignore_value=2)
    assert loss.item() == pytest.approx(math.log(2 + math.exp(5)) / 2)


def test_lovasz_of_two_pixels_by_hand() -> None:
    # Probabilities of class 1: 0.75 (truth 1) and 0.5 (truth 0). Class 1: errors 0.25 and 0.5; the
    # background pixel comes first: Jaccard loss 1/2 with it alone, 1 with both, so
    # 0.5 * 1/2 + 0.25 * 1/2 = 0.375. Class 0: errors 0.5 (its own pixel) and 0.25: the loss is 1
    # with the first and stays 1, so 0.5. Mean 0.4375.
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]]).view(1, 2, 1, 2)
    labels = torch.tensor([[[1, 0]]])
    assert lovasz_softmax(logits, labels).item() == pytest.approx(0.4375)


def test_lovasz_leaves_out_classes_without_a_label() -> None:
    # Class 2 has probability 1/3 everywhere but no pixel; by hand as above for classes 0 and 1:
    # errors 2/3 (own pixel, Jaccard loss 1 at once) and 1/3 (no growth) give 2/3 each.
    logits = torch.zeros(1, 3, 1, 2)
    assert lovasz_softmax(logits, torch.tensor([[[0, 1]]])).item() == pytest.approx(2 / 3)


@settings(max_examples=60, deadline=None)
@given(segmentations())
def test_lovasz_equals_the_papers_algorithm(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    expected = slow_lovasz_softmax(logits.numpy(), labels.numpy())
    loss = lovasz_softmax(logits, labels).item()
    assert loss == pytest.approx(expected, abs=1e-12)
    assert 0 <= loss <= 1 + 1e-12


@settings(max_examples=30, deadline=None)
@given(segmentations(), st.integers(0, 2**31))
def test_lovasz_does_not_see_the_order_of_pixels(batch: tuple[Tensor, Tensor], seed: int) -> None:
    logits, labels = batch
    order = torch.randperm(labels.numel(), generator=torch.Generator().manual_seed(seed))
    pixels = logits.permute(1, 0, 2, 3).flatten(1)
    shuffled = lovasz_softmax(pixels[:, order].view(1, len(pixels), 1, -1), labels.flatten()[order])
    assert shuffled.item() == pytest.approx(lovasz_softmax(logits, labels).item(), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(segmentations())
def test_lovasz_is_zero_for_a_perfect_and_sure_prediction(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    classes = labels.where(labels != IGNORE, 0)
    sure = 1000 * torch.nn.functional.one_hot(classes, logits.shape[1]).permute(0, 3, 1, 2)
    assert lovasz_softmax(sure.double(), labels).item() == 0


@settings(max_examples=30, deadline=None)
@given(segmentations())
def test_gradients_are_finite_and_zero_at_ignored_pixels(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    for loss in (lovasz_softmax, mean_cross_entropy):
        logits = logits.detach().requires_grad_()
        loss(logits, labels).backward()
        assert torch.isfinite(logits.grad).all()
        assert not logits.grad.permute(0, 2, 3, 1)[labels == IGNORE].any()
        logits.grad = None


@pytest.mark.parametrize("loss", [lovasz_softmax, mean_cross_entropy])
def test_a_batch_without_labels_has_no_loss_and_no_gradient(loss) -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    value = loss(logits, torch.full((2, 4, 5), IGNORE))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_lovasz_gradient_pushes_the_right_class_up() -> None:
    logits = torch.randn(1, 4, 6, 6, requires_grad=True)
    labels = torch.randint(4, (1, 6, 6))
    before = lovasz_softmax(logits, labels)
    before.backward()
    after = lovasz_softmax(logits - 5 * logits.grad, labels)
    assert after < before


# ------------------------------------------------------------------ SILog

DEPTHS = st.lists(st.floats(0.01, 100), min_size=2, max_size=20)


def test_silog_by_hand() -> None:
    target = torch.tensor([1.0, 2.0, 0.0, 8.0])
    pred = torch.tensor([2.0, 2.0, 5.0, 2.0])
    g = [-math.log(2), 0, math.log(4)]
    expected = math.sqrt(sum(x * x for x in g) / 3 - 0.5 * (sum(g) / 3) ** 2)
    assert silog_loss(pred, target).item() == pytest.approx(expected, rel=1e-6)


def test_silog_has_no_upper_bound_of_depth() -> None:
    pred = torch.tensor([1.0, 1.0])
    assert silog_loss(pred, torch.tensor([1.0, 1e4])) > silog_loss(pred, torch.tensor([1.0, 1e3]))


@given(DEPTHS, st.floats(0.1, 10), st.floats(0, 1))
def test_silog_of_a_constant_ratio_is_what_the_mean_leaves(
    depths: list[float], ratio: float, mean_weight: float
) -> None:
    target = torch.tensor(depths, dtype=torch.float64)
    loss = silog_loss(target * ratio, target, mean_weight=mean_weight).item()
    expected = math.sqrt(1 - mean_weight) * abs(math.log(ratio))
    assert loss == pytest.approx(expected, abs=1e-6)


@given(DEPTHS)
def test_silog_ignores_pixels_without_target(depths: list[float]) -> None:
    target = torch.tensor(depths, dtype=torch.float64)
    pred = target.flip(0).sqrt() + 0.1
    filled = torch.cat([target, torch.zeros(5, dtype=torch.float64)])
    more = torch.cat([pred, torch.rand(5, dtype=torch.float64)]).requires_grad_()
    loss = silog_loss(more, filled)
    loss.backward()
    torch.testing.assert_close(loss.detach(), silog_loss(pred, target))
    assert torch.equal(more.grad[-5:], torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize("target", [torch.zeros(2, 3, 4), torch.full((2, 3, 4), 2.0)])
def test_silog_without_valid_pixel_or_error_is_zero_with_zero_gradient(target: Tensor) -> None:
    pred = torch.full((2, 3, 4), 2.0, requires_grad=True)
    loss = silog_loss(pred, target)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(pred.grad, torch.zeros_like(pred))


def test_silog_of_a_broken_prediction_is_not_hidden() -> None:
    target = torch.tensor([1.0, 2.0])
    assert silog_loss(torch.tensor([math.nan, 2.0]), target).isnan()
    assert silog_loss(torch.tensor([0.0, 2.0]), target).isfinite().logical_not()


def test_silog_gradient_is_the_numerical_one() -> None:
    target = torch.rand(3, 5, dtype=torch.float64) * (torch.rand(3, 5) > 0.3)
    pred = (torch.rand(3, 5, dtype=torch.float64) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: silog_loss(x, target), pred)


def test_silog_of_other_shapes_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"depth is \(2, 1, 3, 4\) where its target is \(2, 3, 4\)"
    ):
        silog_loss(torch.ones(2, 1, 3, 4), torch.ones(2, 3, 4))


def test_heatmap_mse_is_the_mean_over_keypoints_of_weighted_means() -> None:
    pred, target, weights = torch.rand(3, 5, 4, 6), torch.rand(3, 5, 4, 6), torch.rand(3, 5)
    by_keypoint = [
        torch.mean(weights[:, index, None, None] * (pred[:, index] - target[:, index]).square())
        for index in range(5)
    ]
    expected = torch.stack(by_keypoint).mean()
    torch.testing.assert_close(weighted_heatmap_mse(pred, target, weights), expected)


def test_heatmaps_of_unlabeled_keypoints_alone_have_no_loss_and_no_gradient() -> None:
    pred = torch.rand(2, 3, 4, 4, requires_grad=True)
    loss = weighted_heatmap_mse(pred, torch.rand(2, 3, 4, 4), torch.zeros(2, 3))
    loss.backward()
    assert loss.item() == 0
    assert not pred.grad.any()


def test_heatmaps_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="where their targets are"):
        weighted_heatmap_mse(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 5), torch.zeros(1, 2))


def test_heatmap_cross_entropy_is_least_where_the_softmax_is_the_target() -> None:
    target = torch.rand(2, 3, 4, 5) + 0.1
    weights = torch.tensor([[1.0, 1, 0], [0, 1, 0]])
    shares = target.flatten(2) / target.flatten(2).sum(dim=2, keepdim=True)
    entropy = -(shares * shares.log()).sum(dim=2)[weights > 0].mean()
    torch.testing.assert_close(heatmap_cross_entropy(target.log(), target, weights), entropy)
    assert heatmap_cross_entropy(torch.zeros_like(target), target, weights) > entropy
    uniform = heatmap_cross_entropy(torch.zeros_like(target), target, weights)
    assert uniform.item() == pytest.approx(math.log(20), rel=1e-5)


def test_heatmap_cross_entropy_is_a_mean_weighted_by_weights_of_any_scale() -> None:
    logits, target, weights = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5), torch.rand(2, 3)
    loss = heatmap_cross_entropy(logits, target, weights)
    torch.testing.assert_close(heatmap_cross_entropy(logits, target, weights * 1e-3), loss)


def test_heatmap_cross_entropy_of_unlabeled_keypoints_alone_is_zero() -> None:
    logits = torch.rand(2, 3, 4, 4, requires_grad=True)
    loss = heatmap_cross_entropy(logits, torch.zeros(2, 3, 4, 4), torch.zeros(2, 3))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()
