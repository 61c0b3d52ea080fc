"""Sliding windows: cover, order, count and averaging."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from metaprompt_d2.windows import predict_in_windows, sliding_windows, window_starts

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
    # method section 3.5
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

    image = torch.zeros(1, 2, 5)
    result = predict_in_windows(predict, image, size=(2, 3), stride=(2, 2), batch_size=2)
    assert result.tolist() == [[[1, 1, 1.5, 2, 2]] * 2]


@settings(max_examples=15, deadline=None)
@given(axes(), axes(), st.integers(1, 7))
def test_a_prediction_of_every_pixel_by_itself_is_reproduced(
    rows: tuple[int, int, int], columns: tuple[int, int, int], batch_size: int
) -> None:
    image_size, size, stride = zip(rows, columns, strict=True)
    stride = tuple(max(step, extent // 4, 1) for step, extent in zip(stride, size, strict=True))
    image = torch.randint(100, (2, *image_size)).float()

    def predict(windows: Tensor) -> Tensor:
        assert len(windows) <= batch_size
        return torch.cat([windows, torch.full_like(windows[:, :1], 7)], dim=1)

    result = predict_in_windows(predict, image, size=size, stride=stride, batch_size=batch_size)
    torch.testing.assert_close(result[:2], image)
    torch.testing.assert_close(result[2], torch.full(image_size, 7.0))


def test_batch_size_changes_nothing() -> None:
    image = torch.randn(3, 20, 30)
    weight = torch.randn(4, 3, 3, 3)
    results = [
        predict_in_windows(
            lambda windows: torch.nn.functional.conv2d(windows, weight, padding=1),
            image,
            size=(8, 9),
            stride=(5, 4),
            batch_size=batch_size,
        )
        for batch_size in (1, 4, 100)
    ]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])


def test_an_image_smaller_than_the_window_is_predicted_whole() -> None:
    seen = []

    def predict(windows: Tensor) -> Tensor:
        seen.append(tuple(windows.shape))
        return windows * 2

    image = torch.randn(3, 5, 6)
    result = predict_in_windows(predict, image, size=(8, 8), stride=(4, 4), batch_size=4)
    assert seen == [(1, 3, 5, 6)]
    assert torch.equal(result, image * 2)
