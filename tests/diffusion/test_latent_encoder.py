"""The VAE encoder stays frozen, floors sizes and says what is wrong with sizes."""

import pytest
import torch
from diffusers import AutoencoderKL
from helpers import smallest_vae
from torch import nn

from metaprompt_d2.diffusion import LatentEncoder


@pytest.fixture(scope="module")
def encoder() -> LatentEncoder:
    return smallest_vae()


@pytest.mark.parametrize(
    ("side", "latent_side"), [(8, 1), (15, 1), (16, 2), (33, 4), (65, 8), (79, 9), (80, 10)]
)
def test_sizes_are_rounded_down(encoder: LatentEncoder, side: int, latent_side: int) -> None:
    latent = encoder(torch.zeros(2, 3, side, 24))
    assert latent.shape == (2, 4, latent_side, 3)


@pytest.mark.parametrize("size", [(7, 64), (64, 7)])
def test_an_image_below_one_latent_pixel_is_refused(
    encoder: LatentEncoder, size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=rf"{size[0]}x{size[1]} pixels.*\(8x8\)"):
        encoder(torch.zeros(1, 3, *size))


def test_it_stays_frozen_whatever_is_asked_of_the_model_around_it(encoder: LatentEncoder) -> None:
    model = nn.Sequential(encoder, nn.Conv2d(4, 1, 1)).train()
    model.requires_grad_(True)
    assert not any(module.training for module in encoder.modules())
    image = torch.randn(1, 3, 16, 16, requires_grad=True)
    model(image).sum().backward()
    assert image.grad is None
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert model[1].weight.grad is not None


def test_a_fresh_encoder_has_no_trainable_parameter() -> None:
    assert not any(parameter.requires_grad for parameter in smallest_vae().parameters())


def test_the_latent_is_diffusers_posterior_mean_unscaled() -> None:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 8, 8, 8),
        norm_num_groups=4,
    ).eval()
    encoder = smallest_vae()
    names = set(encoder.state_dict())
    encoder.load_state_dict({k: v for k, v in vae.state_dict().items() if k in names})
    image = torch.rand(2, 3, 24, 40) * 2 - 1
    with torch.no_grad():
        expected = vae.encode(image).latent_dist.mean
    torch.testing.assert_close(encoder(image), expected)


def test_it_has_neither_decoder_nor_post_quant_conv(encoder: LatentEncoder) -> None:
    prefixes = {name.split(".")[0] for name in encoder.state_dict()}
    assert prefixes == {"encoder", "quant_conv"}


def test_stride_is_halved_with_every_level_left_out() -> None:
    encoder = smallest_vae(block_out_channels=(4, 8))
    assert encoder.stride == 2
    assert encoder(torch.zeros(1, 3, 9, 10)).shape == (1, 4, 4, 5)


def test_a_width_that_the_groups_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="must be divisible by num_groups"):
        smallest_vae(block_out_channels=(4, 6))
