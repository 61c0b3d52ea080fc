"""Resizing of maps."""

import torch
from torch import nn
from torch.export import Dim
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


class Resize(nn.Module):
    """Resizes maps to 6x6."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return resize(maps, (6, 6))


def test_a_traced_program_takes_every_size() -> None:
    sides = {2: Dim("rows", min=2, max=99), 3: Dim("columns", min=2, max=99)}
    program = torch.export.export(Resize(), (torch.rand(1, 2, 5, 7),), dynamic_shapes=(sides,))
    for size in ((6, 6), (6, 9), (4, 3)):
        maps = torch.rand(1, 2, *size)
        torch.testing.assert_close(program.module()(maps), resize(maps, (6, 6)))
