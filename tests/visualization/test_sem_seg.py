"""Pictures of classes: layout, colors by hand, and ids without a color."""

import numpy as np
from detectron2.data import Metadata
from picture_panels import COLORS, GAP, HEIGHT, TITLE, WIDTH, filled, panels

from metaprompt_d2.visualization import compare_sem_seg

METADATA = Metadata(name="two", stuff_classes=["a", "b"], stuff_colors=COLORS, ignore_label=255)


def test_image_truth_and_prediction_stand_side_by_side_below_titles() -> None:
    row = compare_sem_seg(filled(50, 3), filled(0), filled(1), METADATA)
    assert row.dtype == np.uint8
    assert row.shape == (HEIGHT + TITLE, 3 * WIDTH + 2 * GAP, 3)
    assert (row[:, WIDTH : WIDTH + GAP] == 255).all()
    title = row[:TITLE, :WIDTH]
    assert 0 < (title < 128).mean() < 0.5  # black letters on white


def test_colors_are_blended_seven_to_three() -> None:
    image, truth, prediction = panels(
        compare_sem_seg(filled(50, 3), filled(1), filled(0), METADATA), 3
    )
    assert (image == 50).all()
    # 0.3 * 50 + 0.7 * color, cut off
    assert (truth == [15 + 70, 15, 15]).all()
    assert (prediction == [15, 15 + 140, 15 + 35]).all()


def test_ids_without_a_class_are_black() -> None:
    labels = filled(0).astype(np.int64)
    labels[0], labels[1], labels[2], labels[3] = 255, 2, 1000, -1
    _, truth, prediction = panels(compare_sem_seg(filled(200, 3), filled(0), labels, METADATA), 3)
    assert not truth[:4].any()
    assert truth[4:].any(axis=2).all()
    assert prediction.any(axis=2).all()


def test_without_truth_two_pictures_remain() -> None:
    row = compare_sem_seg(filled(0, 3), filled(0), None, METADATA)
    assert row.shape[1] == 2 * WIDTH + GAP
    _, prediction = panels(row, 2)
    assert (prediction == [70, 0, 0]).all()


def test_without_colors_every_class_gets_its_own() -> None:
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
