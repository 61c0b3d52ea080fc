"""Networks in half precision: their types, autocast around them, and copies."""

import copy

import pytest
import torch
from helpers import smallest_refinement, smallest_vae
from torch import nn

from metaprompt_d2.diffusion.speedups import convert_weights


@pytest.mark.parametrize("in_autocast", [False, True])
def test_a_converted_unet_takes_float32_and_ignores_autocast(in_autocast: bool) -> None:
    refinement, latent = smallest_refinement(2), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        expected = refinement(latent).features
        convert_weights(refinement.unet, torch.bfloat16)
        norm = next(m for m in refinement.unet.modules() if isinstance(m, nn.GroupNorm))
        seen: list[bool] = []
        norm.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
        with torch.autocast("cpu", torch.float16, enabled=in_autocast):
            features = refinement(latent).features
    assert seen == [False, False]
    for feature, exact in zip(features, expected, strict=True):
        assert feature.dtype == torch.bfloat16
        assert (feature - exact).square().mean().sqrt() < 0.05 * exact.std()


def test_a_converted_encoder_takes_float32() -> None:
    encoder = smallest_vae()
    convert_weights(encoder, torch.bfloat16)
    assert encoder(torch.rand(1, 3, 16, 16)).dtype == torch.bfloat16


def test_a_copy_runs_its_own_weights() -> None:
    encoder, image = smallest_vae(), torch.rand(1, 3, 16, 16)
    convert_weights(encoder, torch.bfloat16)
    clone, before = copy.deepcopy(encoder), encoder(image)
    nn.init.zeros_(clone.quant_conv.weight)
    nn.init.zeros_(clone.quant_conv.bias)
    assert not clone(image).any()
    assert torch.equal(encoder(image), before)
