"""Resizing of maps."""

import torch
from torch.nn import functional as F

from metaprompt_d2.layers import resize


def test_maps_are_resized_bilinearly_without_aligned_corners() -> None:
    maps = torch.rand(2, 3, 5, 7)
    expected = F.interpolate(maps, size=(11, 4), mode="bilinear", align_corners=False)
    assert torch.equal(resize(maps, [11, 4]), expected)


def test_maps_of_the_size_are_returned_as_they_are() -> None:
    maps = torch.rand(2, 3, 5, 7)
    assert resize(maps, (5, 7)) is maps
    assert torch.equal(maps, F.interpolate(maps, size=(5, 7), mode="bilinear"))
