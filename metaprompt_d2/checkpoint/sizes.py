"""Find the sizes of a diffusion model, as config keys."""

import re
from collections.abc import Mapping
from typing import Any

from ..utils.errors import InputError
from .names import count

Shapes = Mapping[str, tuple[int, ...]]  # name of a tensor -> its shape

# Stable Diffusion's published values of what no tensor's shape shows.
_NORM_GROUPS = 32
_HEADS = 8
_CHANNELS_PER_HEAD = 64  # from Stable Diffusion 2 on, which has linear projections


def sizes_from_configs(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> dict[str, Any]:
    """Read the sizes from `config.json` of a UNet2DConditionModel and an AutoencoderKL.

    Returns:
        Values of keys below MODEL.DIFFUSION, e.g. "UNET.BLOCK_OUT_CHANNELS".

    Raises:
        InputError: The UNet has another structure than those of Stable Diffusion 1 and 2.
    """
    _check_structure(unet)
    # diffusers' old name for the number of heads is "attention_head_dim".
    heads = unet.get("num_attention_heads") or unet["attention_head_dim"]
    per_level = () if isinstance(heads, int) else tuple(heads)
    return {
        "UNET.BLOCK_OUT_CHANNELS": tuple(unet["block_out_channels"]),
        "UNET.LAYERS_PER_BLOCK": unet["layers_per_block"],
        "UNET.CROSS_ATTENTION_DIM": unet["cross_attention_dim"],
        "UNET.NUM_HEADS": _HEADS if per_level else heads,
        "UNET.NUM_HEADS_PER_LEVEL": per_level,
        "UNET.NORM_NUM_GROUPS": unet.get("norm_num_groups", _NORM_GROUPS),
        "UNET.LINEAR_PROJECTION": unet.get("use_linear_projection", False),
        "VAE.BLOCK_OUT_CHANNELS": tuple(vae["block_out_channels"]),
        "VAE.LAYERS_PER_BLOCK": vae["layers_per_block"],
        "VAE.LATENT_CHANNELS": vae["latent_channels"],
        "VAE.NORM_NUM_GROUPS": vae.get("norm_num_groups", _NORM_GROUPS),
    }


def sizes_from_shapes(unet: Shapes, vae: Shapes) -> tuple[dict[str, Any], list[str]]:
    """Read the sizes from the shapes of tensors under diffusers' names.

    Returns:
        Values of keys below MODEL.DIFFUSION, and those keys that no shape shows, which have Stable
        Diffusion's published values.

    Raises:
        InputError: Tensors whose shapes show the sizes are missing.
    """
    attention = "mid_block.attentions.0"
    try:
        linear = len(unet[f"{attention}.proj_in.weight"]) == 2
        context = unet[f"{attention}.transformer_blocks.0.attn2.to_k.weight"]
        widths = _widths("down_blocks", unet)
        heads_per_level = tuple(max(width // _CHANNELS_PER_HEAD, 1) for width in widths)
        unet_config = {
            "block_out_channels": widths,
            "layers_per_block": count(r"^down_blocks\.0\.resnets\.\d+\.", unet),
            "cross_attention_dim": context[1],
            "attention_head_dim": heads_per_level if linear else _HEADS,
            "use_linear_projection": linear,
        }
        vae_config = {
            "block_out_channels": _widths("encoder.down_blocks", vae),
            "layers_per_block": count(r"^encoder\.down_blocks\.0\.resnets\.\d+\.", vae),
            "latent_channels": vae["quant_conv.weight"][0] // 2,
        }
    except KeyError as error:
        raise InputError(f"sizes cannot be told without the tensor {error}") from error
    heads = "UNET.NUM_HEADS_PER_LEVEL" if linear else "UNET.NUM_HEADS"
    sizes = sizes_from_configs(unet_config, vae_config)
    return sizes, [heads, "UNET.NORM_NUM_GROUPS", "VAE.NORM_NUM_GROUPS"]


def _check_structure(unet: Mapping[str, Any]) -> None:
    attention_levels = len(unet["block_out_channels"]) - 1
    expected = {
        "down_block_types": ["CrossAttnDownBlock2D"] * attention_levels + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * attention_levels,
        "transformer_layers_per_block": 1,
        "addition_embed_type": None,
        "class_embed_type": None,
    }
    for key, value in expected.items():
        if unet.get(key, value) != value:
            raise InputError(
                f"the UNet's config.json has {key} {unet[key]}, expected {value} as in Stable "
                "Diffusion 1 and 2"
            )


def _widths(blocks: str, shapes: Shapes) -> tuple[int, ...]:
    """Return the numbers of channels of the levels, fine to coarse."""
    levels = count(rf"^{re.escape(blocks)}\.\d+\.", shapes)
    return tuple(shapes[f"{blocks}.{level}.resnets.0.conv1.weight"][0] for level in range(levels))
