"""Gaussian targets, decoding, the flip test: round trips and the reference's arithmetic."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.data.detection_utils import create_keypoint_hflip_indices
from hypothesis import given, settings
from hypothesis import strategies as st

from metaprompt_d2.codecs import UDPHeatmapCodec, average_with_mirrored

CODEC = UDPHeatmapCodec((256, 192), (64, 48))
LARGE = UDPHeatmapCodec((384, 288), (96, 72), sigma=3.0, blur_kernel=17)


def round_trip(codec: UDPHeatmapCodec, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    heatmaps, weights = codec.encode(keypoints, np.ones(len(keypoints), bool))
    decoded, _ = codec.decode(torch.from_numpy(heatmaps)[None])
    return decoded[0].numpy(), weights


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), codec=st.sampled_from([CODEC, LARGE]))
def test_keypoints_come_back_within_half_a_pixel_of_the_crop(
    seed: int, codec: UDPHeatmapCodec
) -> None:
    limit = np.array(codec.crop_size[::-1]) - 1
    shares = np.random.default_rng(seed).uniform(0, 1, (200, 2))
    shares[:100] = shares[:100].round(1)  # many on the very border
    decoded, weights = round_trip(codec, shares * limit)
    assert weights.all()
    np.testing.assert_allclose(decoded, shares * limit, atol=0.5)


def test_keypoints_come_back_from_the_heatmaps_of_large_crops() -> None:
    codec = UDPHeatmapCodec((1024, 768), (256, 192), sigma=6.0, blur_kernel=37)
    shares = np.random.default_rng(0).uniform(0, 1, (40, 2))
    shares[:20] = shares[:20].round()  # in the corners
    decoded, weights = round_trip(codec, shares * (767, 1023))
    assert weights.all()
    np.testing.assert_allclose(decoded, shares * (767, 1023), atol=0.5)


def test_an_uneven_map_moves_a_keypoint_at_the_border_by_one_pixel_at_most() -> None:
    heatmaps = torch.rand(1, 500, 64, 48) * 0.5
    rows = torch.randint(64, (500,))
    heatmaps[0, torch.arange(500), rows, torch.randint(3, (500,))] = 1.0
    keypoints, _ = CODEC.decode(heatmaps)
    assert (keypoints[..., 0] <= 3 * CODEC.stride[0] + 1e-3).all()
    assert (keypoints[0, :, 1] - rows * CODEC.stride[1]).abs().max() <= CODEC.stride[1] + 1e-3


def test_a_target_is_the_references_pixel_by_pixel() -> None:
    keypoint = np.array([[101.3, 37.9]])
    heatmaps, weights = CODEC.encode(keypoint, np.array([True]))
    mean = keypoint[0] / (191 / 47, 255 / 63)
    column, row = (mean + 0.5).astype(int)
    expected = np.zeros((64, 48))
    for y in range(max(row - 6, 0), min(row + 7, 64)):
        for x in range(max(column - 6, 0), min(column + 7, 48)):
            expected[y, x] = np.exp(-((x - mean[0]) ** 2 + (y - mean[1]) ** 2) / 8)
    np.testing.assert_allclose(heatmaps[0], expected, atol=1e-7)
    assert weights[0] == 1


def test_unlabeled_keypoints_and_those_far_outside_have_no_target_and_no_weight() -> None:
    keypoints = np.array([[90.0, 90.0], [90.0, 90.0], [-40.0, 90.0], [90.0, 300.0], [-4.0, 90.0]])
    heatmaps, weights = CODEC.encode(keypoints, np.array([True, False, True, True, True]))
    assert weights.tolist() == [1, 0, 0, 0, 1]
    assert heatmaps.dtype == weights.dtype == np.float32
    assert [bool(heatmap.any()) for heatmap in heatmaps] == [True, False, False, False, True]


def reference_decode(heatmap: np.ndarray) -> np.ndarray:
    """docs/method.md, "ViTPose recipe", with OpenCV's blur, which mirrors maps at the border."""
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    d = np.log(np.clip(cv2.GaussianBlur(heatmap, (11, 11), 0), 0.001, 50))
    d = np.pad(d, 1, mode="edge").astype(np.float64)
    y, x = row + 1, column + 1
    gradient = np.array([d[y, x + 1] - d[y, x - 1], d[y + 1, x] - d[y - 1, x]]) / 2
    dxx = d[y, x + 1] - 2 * d[y, x] + d[y, x - 1]
    dyy = d[y + 1, x] - 2 * d[y, x] + d[y - 1, x]
    dxy = 0.5 * (
        d[y + 1, x + 1]
        - d[y, x + 1]
        - d[y + 1, x]
        + 2 * d[y, x]
        - d[y, x - 1]
        - d[y - 1, x]
        + d[y - 1, x - 1]
    )
    hessian = np.array([[dxx, dxy], [dxy, dyy]]) + 1.19e-7 * np.eye(2)
    return ((column, row) - np.linalg.solve(hessian, gradient)) * (191 / 47, 255 / 63)


def test_decoding_is_the_references_wherever_the_kernel_fits() -> None:
    """On uneven maps with their maximum at least 6 pixels from the border."""
    random = np.random.default_rng(0)
    targets = random.uniform((30, 30), (160, 224), (40, 2))
    heatmaps, _ = CODEC.encode(targets, np.ones(40, bool))
    heatmaps = (heatmaps * random.uniform(0.7, 1, heatmaps.shape) + 0.05).astype(np.float32)
    keypoints, scores = CODEC.decode(torch.from_numpy(heatmaps)[None])
    for keypoint, score, heatmap in zip(keypoints[0], scores[0], heatmaps, strict=True):
        row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
        assert 5 < row < 58 and 5 < column < 42
        np.testing.assert_allclose(keypoint, reference_decode(heatmap), rtol=0, atol=2e-3)
        assert score == heatmap.max()


def test_the_references_mirrored_border_moves_keypoints_outwards() -> None:
    """Why decoding differs there."""
    keypoint = np.array([[9.0, 130.0]])
    heatmaps, _ = CODEC.encode(keypoint, np.array([True]))
    assert reference_decode(heatmaps[0])[0] < 4
    decoded, _ = CODEC.decode(torch.from_numpy(heatmaps)[None])
    np.testing.assert_allclose(decoded[0], keypoint, atol=0.01)


def test_without_blur_the_position_is_the_maximum() -> None:
    codec = UDPHeatmapCodec((256, 192), (64, 48), blur_kernel=0)
    heatmaps = torch.zeros(1, 1, 64, 48)
    heatmaps[0, 0, 20, 10] = 0.5
    keypoints, scores = codec.decode(heatmaps)
    np.testing.assert_allclose(keypoints[0, 0], [10 * 191 / 47, 20 * 255 / 63], rtol=1e-6)
    assert scores.item() == 0.5


def test_a_map_without_a_positive_value_gives_the_first_pixel_and_its_maximum() -> None:
    keypoints, scores = CODEC.decode(torch.full((1, 2, 64, 48), -0.25))
    assert (keypoints == 0).all()
    assert (scores == -0.25).all()


def test_flat_and_tiny_maps_decode_to_numbers() -> None:
    codec = UDPHeatmapCodec((16, 12), (4, 3))
    keypoints, _ = codec.decode(torch.ones(1, 1, 4, 3))
    assert torch.isfinite(keypoints).all()


def test_no_person_decodes_to_none() -> None:
    keypoints, scores = CODEC.decode(torch.zeros(0, 17, 64, 48))
    assert keypoints.shape == (0, 17, 2)
    assert scores.shape == (0, 17)


def test_the_mirrored_heatmaps_of_the_mirrored_keypoints_average_to_the_same() -> None:
    flip_indices = create_keypoint_hflip_indices("keypoints_coco_2017_val")
    keypoints = np.random.default_rng(0).uniform(20, 170, (17, 2))
    mirrored = np.stack([191 - keypoints[:, 0], keypoints[:, 1]], axis=1)[flip_indices]
    seen = np.ones(17, bool)
    there, back = (
        torch.from_numpy(CODEC.encode(points, seen)[0])[None] for points in (keypoints, mirrored)
    )
    # The windows of 3 sigma are cut at whole pixels, on the other side in the mirror.
    torch.testing.assert_close(
        average_with_mirrored(there, back, flip_indices), there, atol=0.01, rtol=0
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": 0}, "sigma is 0"),
        ({"blur_kernel": 4}, "blur_kernel is 4"),
        ({"heatmap_size": (1, 48)}, "at least 2"),
    ],
)
def test_settings_that_mean_nothing_are_refused(arguments: dict, message: str) -> None:
    sizes = {"crop_size": (256, 192), "heatmap_size": (64, 48)}
    with pytest.raises(ValueError, match=message):
        UDPHeatmapCodec(**(sizes | arguments))


def test_heatmaps_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(32, 24\), expected \(64, 48\)"):
        CODEC.decode(torch.zeros(1, 17, 32, 24))
