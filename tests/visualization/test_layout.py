"""Rows of pictures."""

import numpy as np
import pytest
from picture_panels import GAP

from metaprompt_d2.visualization import stack_rows
from metaprompt_d2.visualization.layout import with_title


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


@pytest.mark.parametrize("height", [28, 100, 700])
@pytest.mark.parametrize("width", [60, 128, 400])
@pytest.mark.parametrize("title", ["a", "17: vegetation -0.61", "prompt 127: traffic light +0.01"])
def test_titles_are_never_cut(height: int, width: int, title: str) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    wide = np.zeros((height, 4000, 3), np.uint8)
    bar = with_title(picture, title)[:-height]
    written = np.flatnonzero((bar < 200).any(axis=(0, 2)))
    full = np.flatnonzero((with_title(wide, title)[:-height] < 200).any(axis=(0, 2)))
    assert len(written) > 0
    assert written.max() < width - 1
    if full.max() < width - 9:
        assert np.array_equal(written, full)  # as large as it can be
