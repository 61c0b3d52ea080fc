"""The config keys that a diffusion model's tensors, or its own config, mean."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..utils.errors import InputError

__all__ = ["sizes_from_configs", "sizes_from_shapes"]

Shapes = Mapping[str, tuple[int, ...]]

# What Stable Diffusion's authors published and no tensor shows.
_NORM_GROUPS = 32
_HEADS = 8
_CHANNELS_A_HEAD = 64  # from Stable Diffusion 2 on, which has linear projections

_DOWN_BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D")
_UP_BLOCKS = ("UpBlock2D", "CrossAttnUpBlock2D")


def sizes_from_configs(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> dict[str, Any]:
    """
    Args:
        unet, vae: `config.json` of diffusers' UNet2DConditionModel and AutoencoderKL.

    Returns:
        values of keys below MODEL.DIFFUSION, e.g. "UNET.BLOCK_OUT_CHANNELS".

    Raises:
        InputError: a UNet of another structure than Stable Diffusion 1's and 2's.
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
    """
    Args:
        unet, vae: shapes of the tensors under diffusers' names.

    Returns:
        values of keys below MODEL.DIFFUSION, and those of them that no shape shows, so that they
        have Stable Diffusion's published values.

    Raises:
        InputError: tensors that say the sizes are missing.
    """
    try:
        linear = len(unet["mid_block.attentions.0.proj_in.weight"]) == 2
        widths = _widths("down_blocks.", unet)
        sizes = {
            "UNET.BLOCK_OUT_CHANNELS": widths,
            "UNET.LAYERS_PER_BLOCK": _layers("down_blocks.0.resnets.", unet),
            "UNET.CROSS_ATTENTION_DIM": unet[
                "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
            ][1],
            "UNET.NUM_HEADS": _HEADS,
            "UNET.NUM_HEADS_PER_LEVEL": (
                tuple(max(width // _CHANNELS_A_HEAD, 1) for width in widths) if linear else ()
            ),
            "UNET.NORM_NUM_GROUPS": _NORM_GROUPS,
            "UNET.LINEAR_PROJECTION": linear,
            "VAE.BLOCK_OUT_CHANNELS": _widths("encoder.down_blocks.", vae),
            "VAE.LAYERS_PER_BLOCK": _layers("encoder.down_blocks.0.resnets.", vae),
            "VAE.LATENT_CHANNELS": vae["quant_conv.weight"][0] // 2,
            "VAE.NORM_NUM_GROUPS": _NORM_GROUPS,
        }
    except KeyError as error:
        raise InputError(f"sizes cannot be told without the tensor {error}") from error
    heads = "UNET.NUM_HEADS_PER_LEVEL" if linear else "UNET.NUM_HEADS"
    return sizes, [heads, "UNET.NORM_NUM_GROUPS", "VAE.NORM_NUM_GROUPS"]


def _check_structure(unet: Mapping[str, Any]) -> None:
    levels = len(unet["block_out_channels"])
    expected = {
        "down_block_types": [_DOWN_BLOCKS[0]] * (levels - 1) + [_DOWN_BLOCKS[1]],
        "up_block_types": [_UP_BLOCKS[0]] + [_UP_BLOCKS[1]] * (levels - 1),
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


def _widths(start: str, shapes: Shapes) -> tuple[int, ...]:
    levels = _numbers(start, shapes)
    return tuple(shapes[f"{start}{level}.resnets.0.conv1.weight"][0] for level in levels)


def _layers(start: str, shapes: Shapes) -> int:
    return len(_numbers(start, shapes))


def _numbers(start: str, names: Iterable[str]) -> list[int]:
    """The numbers that follow a beginning of names, in order."""
    found = {name.removeprefix(start).split(".")[0] for name in names if name.startswith(start)}
    return sorted(map(int, found))
