"""CompVis' names against diffusers': there with diffusers' converters, back with our own."""

import pytest
import torch
from helpers import smallest_unet, smallest_vae

from metaprompt_d2.checkpoint.compvis import (
    from_compvis_unet,
    from_compvis_vae,
    to_compvis_unet,
    to_compvis_vae,
)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("channels", [(8, 16), (8, 16, 16), (8, 8, 16, 16)])
@pytest.mark.parametrize("linear", [False, True])
def test_any_unet_comes_back_the_same(channels: tuple, layers: int, linear: bool) -> None:
    unet = smallest_unet(
        block_out_channels=channels, layers_per_block=layers, linear_projection=linear
    )
    tensors = unet.state_dict()
    theirs = to_compvis_unet(tensors)
    assert {name.split(".")[0] for name in theirs} == {
        "input_blocks",
        "middle_block",
        "output_blocks",
        "out",
    }
    assert same(from_compvis_unet(theirs), tensors)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("channels", [(4, 8), (4, 4, 8, 8)])
def test_any_vae_encoder_comes_back_the_same(channels: tuple, layers: int) -> None:
    tensors = smallest_vae(block_out_channels=channels, layers_per_block=layers).state_dict()
    theirs = to_compvis_vae(tensors)
    assert theirs["encoder.mid.attn_1.q.weight"].ndim == 4  # a 1x1 convolution there
    assert same(from_compvis_vae(theirs), tensors)


def test_the_time_mlp_has_its_place_too() -> None:
    theirs = {"time_embed.2.bias": torch.rand(3), "input_blocks.2.0.op.weight": torch.rand(1)}
    assert from_compvis_unet(theirs)["time_embedding.linear_2.bias"] is theirs["time_embed.2.bias"]


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no UNet in CompVis' layout"):
        from_compvis_unet({"blocks.0.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"'neck\.weight' is no name"):
        to_compvis_vae({"neck.weight": torch.zeros(1)})
