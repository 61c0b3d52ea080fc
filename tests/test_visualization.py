"""Pictures: layout, colours by hand, and ids without a colour."""

import numpy as np
import pytest
from detectron2.data import Metadata

from metaprompt_d2.visualization import compare_sem_seg, stack_rows

HEIGHT, WIDTH, TITLE, GAP = 28, 40, 14, 4
COLORS = [(100, 0, 0), (0, 200, 50)]
METADATA = Metadata(name="two", stuff_classes=["a", "b"], stuff_colors=COLORS, ignore_label=255)


def filled(value: int, *shape: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, *shape), value, np.uint8)


def panels(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """The pictures of a row without their titles."""
    return [picture[TITLE:, i * (WIDTH + GAP) :][:, :WIDTH] for i in range(count)]


def test_image_truth_and_prediction_stand_side_by_side_below_titles() -> None:
    row = compare_sem_seg(filled(50, 3), filled(0), filled(1), METADATA)
    assert row.dtype == np.uint8
    assert row.shape == (HEIGHT + TITLE, 3 * WIDTH + 2 * GAP, 3)
    assert (row[:, WIDTH : WIDTH + GAP] == 255).all()
    title = row[:TITLE, :WIDTH]
    assert 0 < (title < 128).mean() < 0.5  # black letters on white


def test_colours_are_blended_seven_to_three() -> None:
    image, truth, prediction = panels(
        compare_sem_seg(filled(50, 3), filled(1), filled(0), METADATA), 3
    )
    assert (image == 50).all()
    # 0.3 * 50 + 0.7 * colour, cut off
    assert (truth == [15 + 70, 15, 15]).all()
    assert (prediction == [15, 15 + 140, 15 + 35]).all()


def test_ids_that_are_no_class_are_black() -> None:
    labels = filled(0).astype(np.int64)
    labels[0], labels[1], labels[2] = 255, 2, 1000
    _, truth, prediction = panels(compare_sem_seg(filled(200, 3), filled(0), labels, METADATA), 3)
    assert not truth[:3].any()
    assert truth[3:].any(axis=2).all()
    assert prediction.any(axis=2).all()


def test_without_truth_two_pictures_remain() -> None:
    row = compare_sem_seg(filled(0, 3), filled(0), None, METADATA)
    assert row.shape[1] == 2 * WIDTH + GAP
    _, prediction = panels(row, 2)
    assert (prediction == [70, 0, 0]).all()


def test_without_colours_every_class_gets_its_own() -> None:
    names = [str(i) for i in range(30)]
    metadata = Metadata(name="many", stuff_classes=names, ignore_label=255)
    labels = filled(0)
    labels.flat[:30] = range(30)
    _, prediction = panels(compare_sem_seg(filled(0, 3), labels, None, metadata), 2)
    assert len(np.unique(prediction.reshape(-1, 3)[:30], axis=0)) == 30


def test_titles_grow_with_the_picture() -> None:
    image = np.zeros((280, 300, 3), np.uint8)
    row = compare_sem_seg(image, image[..., 0], None, METADATA)
    assert row.shape[0] == 280 + 280 // 14


def test_rows_are_stacked_and_narrow_ones_filled_with_white() -> None:
    rows = [np.zeros((3, 5, 3), np.uint8), np.ones((2, 8, 3), np.uint8)]
    stacked = stack_rows(rows)
    assert stacked.shape == (3 + GAP + 2 + GAP, 8, 3)
    assert not stacked[:3, :5].any()
    assert (stacked[:3, 5:] == 255).all()
    assert (stacked[3 : 3 + GAP] == 255).all()
    assert (stacked[3 + GAP : 5 + GAP] == 1).all()


def test_no_rows_cannot_be_stacked() -> None:
    with pytest.raises(ValueError, match="empty"):
        stack_rows([])
