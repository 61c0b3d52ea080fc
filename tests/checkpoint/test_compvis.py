"""CompVis' names against diffusers', in both directions by one table."""

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from helpers import smallest_unet, smallest_vae

from metaprompt_d2.checkpoint.compvis import (
    UNET_PREFIX,
    VAE_PREFIX,
    from_compvis_unet,
    from_compvis_vae,
    unet_layers,
    unsqueeze_attention,
    vae_layers,
)
from metaprompt_d2.checkpoint.names import below, count, rename


def invert(table: dict[str, str]) -> dict[str, str]:
    """The table of the opposite direction; no layer may be lost."""
    inverse = {new: old for old, new in table.items()}
    assert len(inverse) == len(table)
    return inverse


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
    table = invert(unet_layers(tensors))
    theirs = {rename(name, table): value for name, value in tensors.items()}
    assert {name.split(".")[0] for name in theirs} == {
        "input_blocks",
        "middle_block",
        "output_blocks",
        "out",
    }
    assert same(from_compvis_unet(theirs), tensors)
    assert same(diffusers_unet(theirs, layers), tensors)


def diffusers_unet(theirs: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """What diffusers' own converter makes of the tensors."""
    config = {"layers_per_block": layers, "class_embed_type": None, "addition_embed_type": None}
    prefixed = {UNET_PREFIX + name: value for name, value in theirs.items()}
    return convert_ldm_unet_checkpoint(prefixed, config)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("channels", [(4, 8), (4, 4, 8, 8)])
def test_any_vae_encoder_comes_back_the_same(channels: tuple, layers: int) -> None:
    tensors = smallest_vae(block_out_channels=channels, layers_per_block=layers).state_dict()
    table = invert(vae_layers(tensors))
    theirs = {rename(n, table): unsqueeze_attention(n, value) for n, value in tensors.items()}
    assert theirs["encoder.mid.attn_1.q.weight"].ndim == 4  # a 1x1 convolution there
    assert same(from_compvis_vae(theirs), tensors)
    blocks = {f"{side}_block_types": [None] * len(channels) for side in ("down", "up")}
    prefixed = {VAE_PREFIX + name: value for name, value in theirs.items()}
    assert same(convert_ldm_vae_checkpoint(prefixed, blocks), tensors)


def test_the_time_mlp_is_renamed_too() -> None:
    theirs = {"time_embed.2.bias": torch.rand(3), "input_blocks.2.0.op.weight": torch.rand(1)}
    assert from_compvis_unet(theirs)["time_embedding.linear_2.bias"] is theirs["time_embed.2.bias"]


def test_unknown_names_stay_so_that_reports_can_count_them() -> None:
    theirs = {"label_emb.0.bias": torch.rand(3), "input_blocks.2.0.op.weight": torch.rand(1)}
    assert "label_emb.0.bias" in from_compvis_unet(theirs)
    assert from_compvis_vae({"decoder.conv_in.bias": torch.rand(1)}).keys() == {
        "decoder.conv_in.bias"
    }


def test_a_unet_in_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="no UNet in CompVis' layout"):
        from_compvis_unet({"blocks.0.weight": torch.zeros(1)})


def test_the_longest_layer_name_of_a_table_counts() -> None:
    table = {"head.conv": "a", "head.conv.bn": "a.norm"}
    assert rename("head.conv.bn.weight", table) == "a.norm.weight"
    assert rename("head.conv.weight", table) == "a.weight"
    assert rename("head.conv2.weight", table) is None
    assert rename("a.norm.weight", invert(table)) == "head.conv.bn.weight"


def test_distinct_matches_are_counted() -> None:
    assert count(r"^blocks\.\d+", ["blocks.0.a", "blocks.0.b", "blocks.10.a", "x.blocks.1"]) == 2


def test_names_below_a_prefix_lose_it() -> None:
    assert below("a.", {"a.b": 1, "a.c.a.": 2, "ab": 3}) == {"b": 1, "c.a.": 2}
