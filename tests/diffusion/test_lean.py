"""Lean blocks give the numbers of diffusers' own ones; with gradients they are those."""

import copy

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from helpers import smallest_unet, smallest_vae, unet_inputs
from torch import nn


def diffusers_own(network: nn.Module) -> nn.Module:
    """A copy with the classes that diffusers' constructors gave the blocks."""
    network = copy.deepcopy(network)
    replaced = 0
    for module in network.modules():
        for own in (ResnetBlock2D, Transformer2DModel):
            if isinstance(module, own):
                assert type(module) is not own
                module.__class__ = own
                replaced += 1
    assert replaced > 4
    return network


@pytest.mark.parametrize("linear_projection", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_unets_maps_are_equal(
    linear_projection: bool, memory_format: torch.memory_format
) -> None:
    lean = smallest_unet(linear_projection=linear_projection).eval()
    nn.Module.to(lean, memory_format=memory_format)
    own = diffusers_own(lean)
    latent, *rest = unet_inputs(lean, 9, 12, batch_size=2)
    latent = latent.contiguous(memory_format=memory_format)
    for dtype in (None, torch.bfloat16):
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            results = zip(lean(latent, *rest), own(latent, *rest), strict=True)
        for ours, expected in results:
            assert ours.dtype == expected.dtype
            tolerance = 1e-5 if dtype is None else 0.02 * expected.std().item()
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=tolerance)


def test_the_latent_is_equal_and_the_image_untouched() -> None:
    lean = smallest_vae()
    own = diffusers_own(lean)
    image = torch.rand(2, 3, 40, 24) * 2 - 1
    before = image.clone()
    assert torch.equal(lean(image), own(image))
    assert torch.equal(image, before)


def test_with_gradients_the_blocks_are_diffusers_own() -> None:
    lean = smallest_unet()
    own = diffusers_own(lean)
    inputs = unet_inputs(lean, 8, 8)
    for network in (lean, own):
        sum(feature.square().mean() for feature in network(*inputs)).backward()
    for parameter, expected in zip(lean.parameters(), own.parameters(), strict=True):
        assert (parameter.grad is None) == (expected.grad is None)
        if parameter.grad is not None:
            assert torch.equal(parameter.grad, expected.grad)
