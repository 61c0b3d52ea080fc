"""Pictures of responses and of changes between steps."""

import numpy as np

from metaprompt_d2.visualization import (
    draw_change,
    draw_prompts,
    draw_response,
    draw_table,
    response_range,
)

IMAGE = np.full((32, 48, 3), 100, np.uint8)
DARK, BRIGHT = [0, 0, 4], [252, 255, 164]  # the ends of matplotlib's inferno


def mixed(color: list[int]) -> np.ndarray:
    return 0.25 * 100 + 0.75 * np.array(color)


def ramp() -> np.ndarray:
    return np.repeat(np.linspace(-3, 5, 12, dtype=np.float32)[None], 8, axis=0)


def test_a_response_is_bright_where_it_is_high() -> None:
    drawn = draw_response(IMAGE, ramp())
    assert drawn.shape == IMAGE.shape
    np.testing.assert_allclose(drawn[10, 0], mixed(DARK), atol=2)
    np.testing.assert_allclose(drawn[10, -1], mixed(BRIGHT), atol=2)


def test_responses_of_several_steps_share_their_colors() -> None:
    low, high = response_range([ramp(), ramp() + 8])
    assert (low, high) == (-3, 13)
    drawn = draw_response(IMAGE, ramp(), (low, high))
    assert drawn[10, -1].sum() < draw_response(IMAGE, ramp() + 8, (low, high))[10, -1].sum()


def test_a_response_without_contrast_is_drawn() -> None:
    drawn = draw_response(IMAGE, np.ones((8, 12), np.float32))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_a_change_counts_in_standard_deviations() -> None:
    before = np.stack([ramp(), 100 * ramp()])
    after = before + before.std(axis=(1, 2), keepdims=True)
    after[:, :, 6:] = before[:, :, 6:]
    drawn = draw_change(IMAGE, before, after, end=1)
    np.testing.assert_allclose(drawn[10, -1], mixed(DARK), atol=2)
    assert drawn[10, 0].min() > 120  # magma's bright end


def test_prompts_stand_in_rows() -> None:
    responses = np.stack([ramp()] * 5)
    sheet = draw_prompts(IMAGE, responses, list("abcde"), columns=2)
    assert sheet.shape == (3 * (32 + 14 + 4), 2 * 48 + 4, 3)
    assert (sheet[-20:, 60:] == 255).all()  # no sixth


def test_a_table_has_gaps_of_its_columns_width() -> None:
    wide = np.zeros((32, 60, 3), np.uint8)
    table = draw_table([[("a", IMAGE), ("", None)], [("b", IMAGE), ("c", wide)]])
    assert table.shape == (2 * (32 + 14 + 4), 48 + 4 + 60, 3)
    assert (table[:46, 48:] == 255).all()
