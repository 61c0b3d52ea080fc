"""Sliding windows: cover, order, count and averaging."""

import gc
import weakref

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from metaprompt_d2.modeling.sliding_window import (
    predict_in_windows,
    shifted_window_starts,
    shifted_windows,
    sliding_windows,
    window_starts,
)

LENGTHS = st.integers(1, 300)


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Length, size and stride; strides up to the size leave no gap."""
    size = draw(st.integers(1, 130))
    return draw(LENGTHS), size, draw(st.integers(1, size))


@given(axes())
def test_windows_cover_every_pixel_and_end_at_the_border(axis: tuple[int, int, int]) -> None:
    length, size, stride = axis
    starts = window_starts(length, size, stride)
    extent = min(size, length)
    covered = {pixel for start in starts for pixel in range(start, start + extent)}
    assert covered == set(range(length))
    assert starts[-1] + extent == length
    assert starts == sorted(set(starts))


@given(axes())
def test_windows_are_as_many_as_the_official_formula_says(axis: tuple[int, int, int]) -> None:
    length, size, stride = axis
    # docs/method.md, "Segmentation inference"
    assert len(window_starts(length, size, stride)) == (
        max(length - size + stride - 1, 0) // stride + 1
    )


@pytest.mark.parametrize(
    ("axis", "starts"),
    [
        ((2048, 1024, 512), [0, 512, 1024]),  # Cityscapes, width
        ((1024, 1024, 512), [0]),  # Cityscapes, height
        ((683, 512, 341), [0, 171]),  # ADE20K: the second window is moved back to the border
        ((200, 128, 85), [0, 72]),
        ((100, 128, 85), [0]),
    ],
)
def test_window_starts_by_hand(axis: tuple[int, int, int], starts: list[int]) -> None:
    assert window_starts(*axis) == starts


@given(axes(), axes())
def test_all_windows_have_one_size(rows: tuple[int, int, int], columns: tuple[int, int, int]):
    image_size, size, stride = zip(rows, columns, strict=True)
    sizes = {
        (row.stop - row.start, column.stop - column.start)
        for row, column in sliding_windows(image_size, size, stride)
    }
    assert sizes == {(min(size[0], image_size[0]), min(size[1], image_size[1]))}


def test_windows_go_along_the_first_row_first() -> None:
    windows = sliding_windows((3, 5), (2, 3), (1, 2))
    assert [(rows.start, columns.start) for rows, columns in windows] == [
        (0, 0),
        (0, 2),
        (1, 0),
        (1, 2),
    ]


def test_overlapping_predictions_are_averaged_by_hand() -> None:
    # Windows start at columns 0 and 2 of five; the first predicts 1, the second 2, so that the
    # shared column 2 gets 1.5.
    numbers = iter([1.0, 2.0])

    def predict(windows: Tensor) -> Tensor:
        return torch.stack([torch.full_like(window, next(numbers)) for window in windows])

    windows = sliding_windows((2, 5), (2, 3), (2, 2))
    result = predict_in_windows(predict, torch.zeros(1, 1, 2, 5), windows, batch_size=2)
    assert result.tolist() == [[[[1, 1, 1.5, 2, 2]] * 2]]


@settings(max_examples=15, deadline=None)
@given(axes(), axes(), st.integers(1, 7), st.booleans())
def test_a_prediction_of_every_pixel_by_itself_is_reproduced(
    rows: tuple[int, int, int], columns: tuple[int, int, int], batch_size: int, flip: bool
) -> None:
    image_size, size, stride = zip(rows, columns, strict=True)
    stride = tuple(max(step, extent // 4, 1) for step, extent in zip(stride, size, strict=True))
    images = torch.randint(100, (2, 2, *image_size)).float()

    def predict(windows: Tensor) -> Tensor:
        assert len(windows) <= batch_size or windows.shape == images.shape
        return torch.cat([windows, torch.full_like(windows[:, :1], 7)], dim=1)

    windows = sliding_windows(image_size, size, stride)
    result = predict_in_windows(predict, images, windows, batch_size=batch_size, flip=flip)
    torch.testing.assert_close(result[:, :2], images)
    torch.testing.assert_close(result[:, 2], torch.full((2, *image_size), 7.0))


@pytest.mark.parametrize("flip", [False, True])
def test_batch_size_changes_nothing(flip: bool) -> None:
    images = torch.randn(2, 3, 20, 30)
    weight = torch.randn(4, 3, 3, 3)
    results = [
        predict_in_windows(
            lambda windows: torch.nn.functional.conv2d(windows, weight, padding=1),
            images,
            sliding_windows((20, 30), (8, 9), (5, 4)),
            batch_size=batch_size,
            flip=flip,
        )
        for batch_size in (1, 4, 100)
    ]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])


def test_only_one_batch_of_windows_is_held() -> None:
    references, alive = [], []

    def predict(windows: Tensor) -> Tensor:
        gc.collect()
        alive.append(sum(reference() is not None for reference in references))
        output = windows * 2
        references.append(weakref.ref(output))
        return output

    windows = sliding_windows((4, 10), (4, 4), (4, 2))
    predict_in_windows(predict, torch.zeros(1, 3, 4, 10), windows, batch_size=1)
    assert alive == [0] * 4


def test_a_canvas_in_the_main_memory_changes_nothing() -> None:
    images, windows = torch.randn(2, 3, 5, 9), sliding_windows((5, 9), (4, 4), (2, 3))
    results = [
        predict_in_windows(torch.exp, images, windows, batch_size=2, canvas_gib=gib)
        for gib in (1.0, 0.0)
    ]
    assert torch.equal(*results)
    # The meta device stands for a GPU.
    windows = [(slice(0, 5), slice(0, 4))]
    with pytest.raises(NotImplementedError, match="meta"):  # its windows cannot be copied
        predict_in_windows(torch.exp, images.to("meta"), windows, batch_size=2, canvas_gib=0.0)


def test_an_image_smaller_than_the_window_is_predicted_whole() -> None:
    seen = []

    def predict(windows: Tensor) -> Tensor:
        seen.append(tuple(windows.shape))
        return windows * 2

    images = torch.randn(2, 3, 5, 6)
    windows = sliding_windows((5, 6), (8, 8), (4, 4))
    result = predict_in_windows(predict, images, windows, batch_size=4)
    assert seen == [(2, 3, 5, 6)]
    assert torch.equal(result, images * 2)


# ------------------------------------------------------------------ mirrored


def test_mirrored_windows_are_averaged_by_hand() -> None:
    # A window's prediction is its number of the column, so its mirror image's is the reverse.
    def columns_of(windows: Tensor) -> Tensor:
        return torch.arange(3.0).expand(len(windows), 1, 1, 3)

    windows = sliding_windows((1, 4), (1, 3), (1, 1))
    images = torch.zeros(1, 1, 1, 4)
    plain = predict_in_windows(columns_of, images, windows, batch_size=4)
    assert plain.tolist() == [[[[0, 0.5, 1.5, 2]]]]
    both = predict_in_windows(columns_of, images, windows, batch_size=4, flip=True)
    assert both.tolist() == [[[[1, 1, 1, 1]]]]


def test_a_mirrored_whole_image_is_the_mean_of_both() -> None:
    images, weight = torch.randn(2, 3, 6, 8), torch.randn(4, 3, 3, 3)

    def predict(windows: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(windows, weight, padding=1)

    result = predict_in_windows(
        predict, images, [(slice(0, 6), slice(0, 8))], batch_size=4, flip=True
    )
    torch.testing.assert_close(result, (predict(images) + predict(images.flip(-1)).flip(-1)) / 2)


def test_mirrored_windows_count_as_windows_of_a_batch() -> None:
    seen = []

    def predict(windows: Tensor) -> Tensor:
        seen.append(len(windows))
        return windows

    windows = sliding_windows((4, 6), (4, 4), (4, 2))
    predict_in_windows(predict, torch.zeros(1, 3, 4, 6), windows, batch_size=3, flip=True)
    assert seen == [3, 1]


def test_pixels_without_a_window_are_nan() -> None:
    windows = [(slice(0, 2), slice(0, 2))]
    result = predict_in_windows(lambda x: x, torch.ones(1, 1, 2, 3), windows, batch_size=1)
    assert result[0, 0].isnan().tolist() == [[False, False, True]] * 2


# ------------------------------------------------------------------ shifted


@pytest.mark.parametrize(
    ("axis", "official", "covering"),
    [
        ((640, 480, 2), [0, 160], [0, 160]),  # NYU
        ((1216, 352, 16), list(range(0, 856, 57)), [*range(0, 856, 57), 864]),  # KITTI
        ((480, 480, 2), [0], [0]),
        ((100, 120, 5), [0], [0]),
        ((12, 10, 5), [0], [0, 1, 2]),
        ((100, 10, 1), [0], list(range(0, 100, 10))),
        ((100, 10, 2), [0, 90], list(range(0, 100, 10))),
    ],
)
def test_shifted_windows_by_hand(axis: tuple, official: list[int], covering: list[int]) -> None:
    assert shifted_window_starts(*axis, cover_all=False) == official
    assert shifted_window_starts(*axis) == covering


@given(LENGTHS, LENGTHS, st.integers(1, 40))
def test_shifted_windows_cover_every_pixel(length: int, size: int, count: int) -> None:
    starts = shifted_window_starts(length, size, count)
    extent = min(size, length)
    covered = {pixel for start in starts for pixel in range(start, start + extent)}
    assert covered == set(range(length))
    assert starts == sorted(set(starts))


@given(LENGTHS, LENGTHS, st.integers(1, 40))
def test_official_shifted_windows_stay_inside(length: int, size: int, count: int) -> None:
    starts = shifted_window_starts(length, size, count, cover_all=False)
    assert starts[0] == 0
    assert starts[-1] <= max(length - size, 0)
    assert len(starts) in (1, count)


@pytest.mark.parametrize(
    ("image_size", "starts"),
    [((4, 6), [(0, 0), (0, 2)]), ((6, 4), [(0, 0), (2, 0)]), ((5, 5), [(0, 0)])],
)
def test_windows_are_shifted_along_the_longer_side(image_size: tuple, starts: list) -> None:
    windows = shifted_windows(image_size, 2)
    assert [(rows.start, columns.start) for rows, columns in windows] == starts
    side = min(image_size)
    assert {(r.stop - r.start, c.stop - c.start) for r, c in windows} == {(side, side)}
