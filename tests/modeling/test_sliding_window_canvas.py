"""Large outputs: where they lie, and strips of rows that equal the whole."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from metaprompt_d2.modeling import sliding_window
from metaprompt_d2.modeling.sliding_window import (
    allocate_canvas,
    fits_canvas,
    resize_in_strips,
    resize_map,
)

KIB = 2**-20  # in GiB


def interpolated(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("rows_at_once", [1, 2, 7])
@pytest.mark.parametrize("size", [(5, 7), (40, 31), (3, 90), (13, 17)])
def test_strips_are_rows_of_the_whole(
    size: tuple[int, int], rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = torch.randn(3, 13, 17, dtype=torch.float64)
    monkeypatch.setattr(sliding_window, "_STRIP", 3 * size[1] * rows_at_once)
    strips = list(resize_in_strips(maps, size))
    assert [rows.start for rows, _ in strips] == list(range(0, size[0], rows_at_once))
    assert strips[-1][0].stop == size[0]
    torch.testing.assert_close(
        torch.cat([strip for _, strip in strips], dim=1), interpolated(maps, size)
    )


def test_a_strip_is_one_row_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliding_window, "_STRIP", 1)
    strips = [strip for _, strip in resize_in_strips(torch.randn(3, 4, 5), (6, 7))]
    assert [tuple(strip.shape) for strip in strips] == [(3, 1, 7)] * 6


def test_maps_of_the_right_size_are_not_copied() -> None:
    maps = torch.randn(2, 4, 5)
    assert resize_map(maps, (4, 5), max_gib=0) is maps


def test_what_does_not_fit_the_device_is_made_in_the_main_memory() -> None:
    # The meta device stands for a GPU: what is left there has no values.
    maps = torch.randn(2, 4, 5, device="meta")
    assert resize_map(maps, (16, 32), max_gib=4 * KIB).device.type == "meta"
    assert allocate_canvas((2, 16, 32), torch.float64, "meta", 4 * KIB).device.type == "meta"
    zeros = allocate_canvas((2, 16, 33), torch.float64, "meta", 4 * KIB)
    assert zeros.device.type == "cpu"
    assert zeros.dtype == torch.float64
    assert not zeros.any()


def test_a_size_is_counted_in_float32() -> None:
    # 1024 values of 4 bytes are 4 KiB.
    assert fits_canvas((4, 16, 16), 4 * KIB)
    assert not fits_canvas((4, 16, 17), 4 * KIB)
    assert not fits_canvas((150, 4000, 6000), 13.4)  # 14.4e9 bytes are 13.41 GiB
    assert fits_canvas((150, 4000, 6000), 13.5)
