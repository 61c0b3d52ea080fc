"""Rows of pictures."""

import numpy as np
import pytest
from picture_panels import GAP

from metaprompt_d2.visualization import stack_rows


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
