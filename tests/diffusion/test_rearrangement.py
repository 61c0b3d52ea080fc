"""Rearrangements: sizes, arithmetic with simple weights, errors."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metaprompt_d2.diffusion import FusedRearrangement, PyramidRearrangement, respond

CHANNELS = (8, 16, 16, 16)
SIZES = ((16, 24), (8, 12), (4, 6), (2, 3))
SETTINGS = {"in_channels": CHANNELS, "prompt_dim": 12, "norm_num_groups": 4}
PROMPTS = (5, 12)


def random_maps() -> list[torch.Tensor]:
    return [torch.randn(2, c, *size) for c, size in zip(CHANNELS, SIZES, strict=True)]


def test_the_pyramid_doubles_every_map() -> None:
    outputs = PyramidRearrangement(**SETTINGS)(random_maps(), torch.randn(PROMPTS))
    assert [tuple(output.shape) for output in outputs] == [
        (2, 5, 2 * height, 2 * width) for height, width in SIZES
    ]


def test_a_level_is_upsampled_projected_normalized_rectified_and_rearranged_in_this_order() -> None:
    rearrangement = PyramidRearrangement(**SETTINGS)
    maps, prompts = random_maps(), torch.randn(PROMPTS)
    outputs = rearrangement(maps, prompts)
    for feature, projection, output in zip(maps, rearrangement.projections, outputs, strict=True):
        conv, norm, _ = projection
        x = F.interpolate(feature, scale_factor=2, mode="bilinear", align_corners=False)
        x = F.conv2d(x, conv.weight, conv.bias, padding=1)
        x = F.relu(F.group_norm(x, 4, norm.weight, norm.bias, eps=1e-5))
        torch.testing.assert_close(output, torch.einsum("bchw,nc->bnhw", x, prompts))


def test_levels_of_the_pyramid_do_not_see_each_other() -> None:
    rearrangement = PyramidRearrangement(**SETTINGS)
    maps, prompts = random_maps(), torch.randn(PROMPTS)
    before = rearrangement(maps, prompts)
    maps[1] = maps[1] + 1
    after = rearrangement(maps, prompts)
    equal = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert equal == [True, False, True, True]


def test_fusing_brings_all_maps_to_the_finest_size() -> None:
    rearrangement = FusedRearrangement(**SETTINGS, deconv_channels=3)
    (output,) = rearrangement(random_maps(), torch.randn(PROMPTS))
    assert output.shape == (2, 5, 16, 24)


def test_fusing_concatenates_fine_to_coarse_and_responds_once() -> None:
    rearrangement = FusedRearrangement(**SETTINGS, deconv_channels=3).eval()
    maps, prompts = random_maps(), torch.randn(PROMPTS)
    branches = [b(feature) for b, feature in zip(rearrangement.branches, maps, strict=True)]
    assert [branch.shape[1] for branch in branches] == list(CHANNELS)
    fused = rearrangement.fuse(torch.cat(branches, dim=1))
    torch.testing.assert_close(rearrangement(maps, prompts)[0], respond(fused, prompts))


def test_a_fused_map_doubles_once_for_every_level_below_the_finest() -> None:
    rearrangement = FusedRearrangement(**SETTINGS, deconv_channels=3)
    counts = [
        sum(isinstance(module, nn.ConvTranspose2d) for module in branch.modules())
        for branch in rearrangement.branches
    ]
    assert counts == [0, 1, 2, 3]


def test_new_convolutions_of_the_fused_mode_start_small() -> None:
    rearrangement = FusedRearrangement(
        in_channels=(32, 32), prompt_dim=32, norm_num_groups=4, deconv_channels=32
    )
    for module in rearrangement.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not module.bias.any()


@pytest.mark.parametrize("kind", [PyramidRearrangement, FusedRearrangement])
def test_groups_that_do_not_divide_the_prompts_width_are_refused(kind: type) -> None:
    with pytest.raises(ValueError, match="must be divisible by num_groups"):
        kind(in_channels=(8, 8), prompt_dim=12, norm_num_groups=8)


@pytest.mark.parametrize("kind", [PyramidRearrangement, FusedRearrangement])
def test_all_parameters_and_the_prompts_get_a_gradient(kind: type) -> None:
    rearrangement = kind(**SETTINGS)
    prompts = torch.randn(PROMPTS, requires_grad=True)
    sum(output.square().mean() for output in rearrangement(random_maps(), prompts)).backward()
    assert all(parameter.grad is not None for parameter in rearrangement.parameters())
    assert prompts.grad.abs().max() > 0
