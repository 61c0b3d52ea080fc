"""Pictures of segments."""

import numpy as np
from detectron2.data import Metadata

from metaprompt_d2.visualization import draw_segments


def test_segments_have_colors_of_classes_and_of_things() -> None:
    metadata = Metadata(
        name="segments",
        stuff_classes=["sky", "car"],
        stuff_colors=[(0, 0, 255), (255, 0, 0)],
        thing_dataset_id_to_contiguous_id={7: 1},
    )
    image, masks = np.full((200, 300, 3), 50, np.uint8), np.zeros((3, 200, 300), bool)
    masks[0, :80], masks[1, 100:, :120], masks[2, 100:, 150:280] = True, True, True
    drawn = draw_segments(image, list(masks), [0, 1, 1], metadata)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    sky, first, second, rest = (
        np.median(drawn[place], axis=0) for place in (*masks, ~masks.any(axis=0))
    )
    assert sky.argmax() == 2 and sky[2] > 130  # the color of its class
    assert np.abs(first - second).max() > 40  # two cars
    assert np.abs(rest - 50).max() <= 1
