"""The VAE's residual blocks against diffusers' own."""

import copy

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from helpers import smallest_vae

from metaprompt_d2.diffusion.speedups import InPlaceResidualBlock, use_in_place_blocks


@pytest.mark.parametrize("out_channels", [8, 16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_gives_the_numbers_of_diffusers_block_and_leaves_its_input(
    out_channels: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    own = ResnetBlock2D(
        in_channels=8, out_channels=out_channels, temb_channels=None, groups=4, eps=1e-6
    ).eval()
    ours = copy.deepcopy(own)
    ours.__class__ = InPlaceResidualBlock
    x = torch.randn(2, 8, 9, 12).contiguous(memory_format=memory_format)
    before = x.clone()
    with torch.no_grad():
        for dtype in (torch.float32, torch.bfloat16):
            expected = own.to(dtype)(x.to(dtype), None)
            assert torch.equal(ours.to(dtype)(x.to(dtype), None), expected)
    assert torch.equal(x, before)


def test_all_blocks_of_an_encoder_change_and_parameters_keep_their_names() -> None:
    encoder, plain = smallest_vae(), smallest_vae()
    encoder.load_state_dict(plain.state_dict())
    use_in_place_blocks(encoder)
    assert encoder.state_dict().keys() == plain.state_dict().keys()
    blocks = [m for m in encoder.modules() if isinstance(m, ResnetBlock2D)]
    assert [type(block) for block in blocks] == [InPlaceResidualBlock] * 6
    image = torch.rand(1, 3, 24, 40)
    assert torch.equal(encoder(image), plain(image))
