"""Resizing, cropping and padding against arithmetic by hand, OpenCV and Detectron2."""

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from fvcore.transforms.transform import NoOpTransform
from helpers import tiny_cfg

from metaprompt_d2.data import CropOfSeveralClasses, PadToSize, ResizeToBox


def random_pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


# docs/method.md: box = int(side * ratio), factor = the smaller of long / long and
# short / short, new side = int(side * factor + 0.5)
@pytest.mark.parametrize(
    ("size", "box", "ratio", "expected"),
    [
        ((1024, 2048), (2048, 1024), 0.5, (512, 1024)),  # Cityscapes, halved
        ((1024, 2048), (2048, 1024), 1.0, (1024, 2048)),
        # 512 / 375 = 1.36533; 500 * 1.36533 = 682.67
        ((375, 500), (2048, 512), 1.0, (512, 683)),
        # box 1576 x 394; 394 / 375 = 1.05067; 500 * 1.05067 = 525.3
        ((375, 500), (2048, 512), 0.77, (394, 525)),
        # upright: the long side of the box goes along the height; 40 / 200 = 0.2 < 100 / 300
        ((300, 200), (100, 40), 1.0, (60, 40)),
        # a very long image is bound by the long side: 2048 / 4096 = 0.5
        ((100, 4096), (2048, 512), 1.0, (50, 2048)),
        # half a pixel is rounded up: 3 * 0.5 + 0.5 = 2
        ((3, 4), (2, 2), 1.0, (2, 2)),
        # nothing vanishes: 1 * 0.01 + 0.5 = 0.51
        ((1, 200), (2, 2), 1.0, (1, 2)),
    ],
)
def test_new_size_by_hand(size: tuple, box: tuple, ratio: float, expected: tuple) -> None:
    augmentation = ResizeToBox(*box, (ratio, ratio))
    image = np.zeros((*size, 3), np.uint8)
    resized = augmentation.get_transform(image).apply_image(image)
    assert resized.shape == (*expected, 3)


def test_pixels_and_labels_are_opencvs() -> None:
    image, labels = random_pixels(30, 50), random_pixels(30, 50)[..., 0]
    transform = ResizeToBox(64, 24).get_transform(image)
    assert np.array_equal(
        transform.apply_image(image), cv2.resize(image, (40, 24), interpolation=cv2.INTER_LINEAR)
    )
    assert np.array_equal(
        transform.apply_segmentation(labels),
        cv2.resize(labels, (40, 24), interpolation=cv2.INTER_NEAREST),
    )


def test_labels_of_32_bits_are_resized_too() -> None:
    labels = np.arange(6, dtype=np.int32).reshape(2, 3) * 1000
    transform = ResizeToBox(6, 4).get_transform(np.zeros((2, 3, 3), np.uint8))
    expected = labels.repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(transform.apply_segmentation(labels), expected)


def test_an_image_that_fits_already_is_left_alone() -> None:
    transform = ResizeToBox(50, 30).get_transform(random_pixels(30, 50))
    assert isinstance(transform, NoOpTransform)


def test_the_factor_is_uniform_in_its_range() -> None:
    augmentation = ResizeToBox(1000, 1000, (0.5, 2.0))
    image = np.zeros((10, 10, 3), np.uint8)
    sides = np.array([augmentation.get_transform(image).new_size[0] for _ in range(400)])
    assert sides.min() >= 500
    assert sides.max() <= 2000
    # mean 1250, deviation 1500 / sqrt(12) = 433, of 400 draws 22; quarters hold 100 each
    assert abs(sides.mean() - 1250) < 90
    counts, _ = np.histogram(sides, bins=4, range=(500, 2000))
    assert counts.min() > 60


def test_coordinates_follow_the_image_and_back() -> None:
    transform = ResizeToBox(100, 40).get_transform(np.zeros((20, 40, 3), np.uint8))
    points = np.array([[40.0, 20.0], [10.0, 5.0]])
    moved = transform.apply_coords(points)
    assert moved.tolist() == [[80, 40], [20, 10]]
    np.testing.assert_allclose(transform.inverse().apply_coords(moved), points)


@pytest.mark.parametrize("sides", [(100, 0), (50, 100)])
def test_impossible_boxes_are_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"short_side is .*long_side"):
        ResizeToBox(*sides)


@pytest.mark.parametrize("scale_range", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_impossible_factors_are_refused(scale_range: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"scale_range is"):
        ResizeToBox(100, 50, scale_range)


def test_padding_goes_to_the_bottom_and_the_right_with_ignored_labels() -> None:
    image, labels = random_pixels(4, 5), random_pixels(4, 5)[..., 0]
    transform = PadToSize((6, 8), [1.0, 2.0, 3.0], 99).get_transform(image)
    padded, padded_labels = transform.apply_image(image), transform.apply_segmentation(labels)
    assert padded.shape == (6, 8, 3)
    assert np.array_equal(padded[:4, :5], image)
    assert (padded[4:] == [1, 2, 3]).all()
    assert (padded[:, 5:] == [1, 2, 3]).all()
    assert np.array_equal(padded_labels[:4, :5], labels)
    assert (padded_labels[4:] == 99).all()
    assert (padded_labels[:, 5:] == 99).all()
    assert transform.apply_coords(np.array([[1.0, 2.0]])).tolist() == [[1, 2]]


def test_a_padded_pixel_normalizes_to_zero() -> None:
    cfg = tiny_cfg({"MODEL.PIXEL_MEAN": [127.5, 100.25, 3.0], "MODEL.PIXEL_STD": [127.5, 3.0, 1.0]})
    mean, std = np.array(cfg.MODEL.PIXEL_MEAN), np.array(cfg.MODEL.PIXEL_STD)
    image = random_pixels(2, 2)
    padded = PadToSize((4, 4), cfg.MODEL.PIXEL_MEAN).get_transform(image).apply_image(image)
    assert not ((padded - mean) / std)[2:].any()


@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
def test_an_image_large_enough_is_not_padded(size: tuple[int, int]) -> None:
    transform = PadToSize((6, 8), [0.0]).get_transform(random_pixels(*size))
    assert isinstance(transform, NoOpTransform)


def test_an_image_short_on_one_side_is_padded_there_only() -> None:
    image = random_pixels(3, 20)
    padded = PadToSize((6, 8), [0.0] * 3).get_transform(image).apply_image(image)
    assert padded.shape == (6, 20, 3)


def label_maps() -> list[np.ndarray]:
    """Of several classes, of one, of one next to ignored pixels, mostly of one; and wider types."""
    random = np.random.default_rng(0)
    mixed = random.integers(0, 4, (6, 8), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    one = np.full_like(mixed, 7)
    one_and_ignored = np.where(mixed == 0, 255, one).astype(np.uint8)
    mostly = np.where(random.random(mixed.shape) < 0.26, 3, one).astype(np.uint8)
    return [mixed, one, one_and_ignored, mostly, mixed.astype(np.int32)]


@pytest.mark.parametrize("ignored", [255, None, -1])
@pytest.mark.parametrize("share", [0.4, 0.75, 1.0])
def test_crops_and_draws_are_detectron2s(ignored: int | None, share: float) -> None:
    arguments = ("absolute", [20, 60], share, ignored)
    ours, theirs = CropOfSeveralClasses(*arguments), T.RandomCrop_CategoryAreaConstraint(*arguments)
    for labels in label_maps():
        image = np.zeros((*labels.shape, 3), np.uint8)
        for seed in range(20):
            boxes, draws = [], []
            for crop in (ours, theirs):
                np.random.seed(seed)
                transform = crop.get_transform(image, labels)
                boxes.append((transform.x0, transform.y0, transform.w, transform.h))
                draws.append(np.random.rand())
            assert boxes[0] == boxes[1]
            assert draws[0] == draws[1]
