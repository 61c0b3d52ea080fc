"""Color by tables against Detectron2's arithmetic, pixel by pixel."""

import random

import numpy as np
import pytest
from detectron2.projects.point_rend import ColorAugSSDTransform

from metaprompt_d2.data import ColorAugSSD

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_pixels_and_draws_are_detectron2s(image_format: str) -> None:
    ours, theirs = ColorAugSSD(image_format), ColorAugSSDTransform(img_format=image_format)
    for seed in range(40):
        image = np.flip(PIXELS, axis=1) if seed % 2 else PIXELS  # a view, as after a flip
        outputs, states = [], []
        for transform in (ours, theirs):
            random.seed(seed)
            outputs.append(transform.apply_image(image))
            states.append(random.getstate())
        assert np.array_equal(*outputs), seed
        assert states[0] == states[1]


def test_nothing_moves_and_the_input_stays() -> None:
    transform, before = ColorAugSSD("RGB"), PIXELS.copy()
    for seed in range(8):
        random.seed(seed)
        transform.apply_image(PIXELS)
    assert np.array_equal(PIXELS, before)
    assert transform.apply_segmentation(PIXELS) is PIXELS


def test_another_image_format_is_refused_by_its_key() -> None:
    with pytest.raises(ValueError, match=r"image_format is 'L'"):
        ColorAugSSD("L")
