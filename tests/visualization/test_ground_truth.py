"""Pictures of ground truth."""

import numpy as np
from detectron2.data import Metadata
from picture_panels import COLORS, HEIGHT, TITLE, WIDTH, filled, panels

from metaprompt_d2.visualization import draw_ground_truth


def test_ground_truth_stands_next_to_its_image() -> None:
    classes = {"stuff_classes": ["a", "b"], "stuff_colors": COLORS}
    metadata = Metadata(name="both", ignore_label=255, max_depth=8.0, **classes)
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    depth[:, :30] = 4
    row = draw_ground_truth(filled(50, 3), metadata, sem_seg=filled(255), depth=depth)
    image, classes, metres = panels(row, 3)
    assert (image == 50).all()
    assert (classes == 0).all()  # ignored
    assert (metres[:, 30:] == 128).all()  # no value
    assert len(np.unique(metres[:, :30].reshape(-1, 3), axis=0)) == 1
    assert (metres[0, 0] != 128).any()
    assert draw_ground_truth(filled(50, 3), metadata).shape == (HEIGHT + TITLE, WIDTH, 3)


def test_segments_are_drawn_next_to_the_image() -> None:
    metadata = Metadata(name="segments", thing_classes=["sky"])
    row = draw_ground_truth(filled(50, 3), metadata, segments=([np.ones((HEIGHT, WIDTH))], [0]))
    image, segments = panels(row, 2)
    assert (image == 50).all() and (segments != 50).any()


def test_segments_may_be_missing() -> None:
    metadata = Metadata(name="no_segments", thing_classes=["car"])
    row = draw_ground_truth(filled(50, 3), metadata, segments=([], []))
    assert np.abs(panels(row, 2)[1].astype(int) - 50).max() <= 1
