"""Stable Diffusion's tensors under CompVis' names (one-file checkpoints) and under diffusers'.

diffusers' converters lead one way; the way back, which it has none for, is written here. Names
stand without CompVis' prefixes `model.diffusion_model.` and `first_stage_model.`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from torch import Tensor

from ..utils.errors import InputError

__all__ = [
    "UNET_PREFIX",
    "VAE_PREFIX",
    "from_compvis_unet",
    "from_compvis_vae",
    "to_compvis_unet",
    "to_compvis_vae",
]

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."

AnyTensor = TypeVar("AnyTensor")

# diffusers' names -> CompVis', within a residual block and an attention block.
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_RESNET = {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def from_compvis_unet(tensors: Mapping[str, AnyTensor]) -> dict[str, AnyTensor]:
    """
    Args:
        tensors: of the UNet, under CompVis' names.

    Returns:
        the same tensors under diffusers' names.

    Raises:
        InputError: the names are not those of a UNet with downsampling.
    """
    downsamplers = [
        int(match[1])
        for name in tensors
        if (match := re.match(r"input_blocks\.(\d+)\.0\.op", name))
    ]
    if not downsamplers:
        raise InputError("no UNet in CompVis' layout: input_blocks without a downsampling layer")
    config = {"layers_per_block": min(downsamplers) - 1}
    config |= {"class_embed_type": None, "addition_embed_type": None}
    prefixed = {UNET_PREFIX + name: value for name, value in tensors.items()}
    return convert_ldm_unet_checkpoint(prefixed, config)


def from_compvis_vae(tensors: Mapping[str, AnyTensor]) -> dict[str, AnyTensor]:
    """
    Args:
        tensors: of the VAE or of its encoder alone, under CompVis' names.

    Returns:
        the same tensors under diffusers' names; the attention's 1x1 convolutions as linear layers.
    """
    levels = {match[1] for name in tensors if (match := re.match(r"encoder\.down\.(\d+)\.", name))}
    blocks = [None] * len(levels)
    prefixed = {VAE_PREFIX + name: value for name, value in tensors.items()}
    return convert_ldm_vae_checkpoint(
        prefixed, {"down_block_types": blocks, "up_block_types": blocks}
    )


def to_compvis_unet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back of `from_compvis_unet`."""
    levels = _count(r"down_blocks\.(\d+)\.", tensors)
    layers = _count(r"down_blocks\.0\.resnets\.(\d+)\.", tensors)
    prefixes = _unet_prefixes(
        levels, layers, {name.rpartition(".attentions.")[0] for name in tensors}
    )
    return {_rename(name, prefixes, _RESNET): value for name, value in tensors.items()}


def to_compvis_vae(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back of `from_compvis_vae`, for the encoder and `quant_conv`."""
    prefixes = {
        "quant_conv": "quant_conv",
        "encoder.conv_in": "encoder.conv_in",
        "encoder.conv_norm_out": "encoder.norm_out",
        "encoder.conv_out": "encoder.conv_out",
        "encoder.mid_block.resnets.0": "encoder.mid.block_1",
        "encoder.mid_block.resnets.1": "encoder.mid.block_2",
        "encoder.mid_block.attentions.0": "encoder.mid.attn_1",
    }
    for level in range(_count(r"encoder\.down_blocks\.(\d+)\.", tensors)):
        ours, theirs = f"encoder.down_blocks.{level}", f"encoder.down.{level}"
        prefixes[f"{ours}.downsamplers.0"] = f"{theirs}.downsample"
        for layer in range(_count(r"encoder\.down_blocks\.0\.resnets\.(\d+)\.", tensors)):
            prefixes[f"{ours}.resnets.{layer}"] = f"{theirs}.block.{layer}"
    renamed = {}
    for name, value in tensors.items():
        in_attention = ".attentions." in name
        if in_attention and value.ndim == 2:
            value = value[:, :, None, None]
        inner = _VAE_ATTENTION if in_attention else _VAE_RESNET
        renamed[_rename(name, prefixes, inner)] = value
    return renamed


def _unet_prefixes(levels: int, layers: int, with_attention: set[str]) -> dict[str, str]:
    """Where each block of diffusers' UNet stands in CompVis' flat lists of blocks."""
    prefixes = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    for level in range(levels):
        down, up, first = f"down_blocks.{level}", f"up_blocks.{level}", level * (layers + 1)
        for layer in range(layers):
            block = f"input_blocks.{1 + first + layer}"
            prefixes[f"{down}.resnets.{layer}"] = f"{block}.0"
            prefixes[f"{down}.attentions.{layer}"] = f"{block}.1"
        prefixes[f"{down}.downsamplers.0.conv"] = f"input_blocks.{first + layers + 1}.0.op"
        for layer in range(layers + 1):
            block = f"output_blocks.{first + layer}"
            prefixes[f"{up}.resnets.{layer}"] = f"{block}.0"
            prefixes[f"{up}.attentions.{layer}"] = f"{block}.1"
        place = 2 if up in with_attention else 1
        prefixes[f"{up}.upsamplers.0"] = f"output_blocks.{first + layers}.{place}"
    return prefixes


def _rename(name: str, prefixes: Mapping[str, str], inner: Mapping[str, str]) -> str:
    for prefix, theirs in prefixes.items():
        if name.startswith(f"{prefix}."):
            rest = name.removeprefix(f"{prefix}.")
            layer, _, kind = rest.rpartition(".")
            if ".resnets." in name or inner is _VAE_ATTENTION:
                rest = f"{inner.get(layer, layer)}.{kind}"
            return f"{theirs}.{rest}"
    raise InputError(f"{name!r} is no name of a Stable Diffusion UNet or VAE encoder")


def _count(pattern: str, names: Iterable[str]) -> int:
    """How many different numbers a pattern's group takes."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})
