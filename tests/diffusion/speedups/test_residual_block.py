"""The VAE's residual blocks against diffusers' own."""

import copy

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from helpers import smallest_vae

from metaprompt_d2.diffusion.speedups import InPlaceResidualBlock


@pytest.mark.parametrize("out_channels", [8, 16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_gives_the_numbers_of_diffusers_block_and_leaves_its_input(
    out_channels: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    own = ResnetBlock2D(
        in_channels=8, out_channels=out_channels, temb_channels=None, groups=4, eps=1e-6
    ).eval()
    ours = InPlaceResidualBlock(copy.deepcopy(own))
    assert ours.state_dict().keys() == own.state_dict().keys()
    x = torch.randn(2, 8, 9, 12).contiguous(memory_format=memory_format)
    before = x.clone()
    with torch.no_grad():
        for dtype in (torch.float32, torch.bfloat16):
            expected = own.to(dtype)(x.to(dtype), None)
            for in_place in (True, False):
                ours.in_place = in_place
                assert torch.equal(ours.to(dtype)(x.to(dtype)), expected)
    assert torch.equal(x, before)


def test_all_blocks_of_the_encoder_are_such() -> None:
    modules = list(smallest_vae().modules())
    assert not any(isinstance(module, ResnetBlock2D) for module in modules)
    assert sum(isinstance(module, InPlaceResidualBlock) for module in modules) == 6
