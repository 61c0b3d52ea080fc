"""Stable Diffusion's layer names in CompVis' code (one-file checkpoints) and in diffusers."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from ..utils.errors import InputError
from .names import count, rename

# Prefixes in CompVis' files. The tables below have names without them.
UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_VAE_RESNET = {name: name for name in ("norm1", "conv1", "norm2", "conv2")}
_VAE_RESNET["nin_shortcut"] = "conv_shortcut"
_VAE_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}


def from_compvis_unet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a UNet's tensors from CompVis' names to diffusers'. Unknown names stay.

    Raises:
        InputError: The names aren't those of a UNet with downsampling.
    """
    if not count(r"^input_blocks\.\d+\.0\.op", tensors):
        raise InputError("no UNet in CompVis' layout: input_blocks without a downsampling layer")
    layers = unet_layers(tensors)
    return {rename(name, layers) or name: value for name, value in tensors.items()}


def from_compvis_vae(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a VAE encoder's tensors from CompVis' names to diffusers'. Unknown names stay."""
    layers = vae_layers(tensors)
    renamed = {rename(name, layers) or name: value for name, value in tensors.items()}
    return {name: squeeze_attention(name, value) for name, value in renamed.items()}


def squeeze_attention(name: str, value: Tensor) -> Tensor:
    """Turn a 1x1 convolution of the VAE encoder's attention, as CompVis has it, into a matrix.

    Args:
        name: Name in diffusers.
        value: Any tensor. Other tensors than these convolutions are returned unchanged.
    """
    return value[:, :, 0, 0] if _is_vae_attention(name) and value.ndim == 4 else value


def unsqueeze_attention(name: str, value: Tensor) -> Tensor:
    """Undo `squeeze_attention`."""
    return value[:, :, None, None] if _is_vae_attention(name) and value.ndim == 2 else value


def unet_layers(names: Iterable[str]) -> dict[str, str]:
    """Map CompVis' layer names of a UNet to diffusers'.

    Args:
        names: Names of the UNet's tensors in either layout, with any prefix. They tell the numbers
            of levels and layers.
    """
    names = list(names)
    levels = 1 + count(r"input_blocks\.\d+\.0\.op|down_blocks\.\d+\.downsamplers", names)
    decoder_layers = count(r"output_blocks\.\d+\.|up_blocks\.\d+\.resnets\.\d+\.", names) // levels
    encoder_layers = decoder_layers - 1
    table = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        **_join("middle_block.0", "mid_block.resnets.0", _RESNET),
        "middle_block.1": "mid_block.attentions.0",
        **_join("middle_block.2", "mid_block.resnets.1", _RESNET),
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
    for level in range(levels):  # fine to coarse; the coarsest level has no attention
        is_coarsest = level == levels - 1
        first = 1 + level * (encoder_layers + 1)
        for layer in range(encoder_layers):
            theirs, ours = f"input_blocks.{first + layer}", f"down_blocks.{level}"
            table |= _join(f"{theirs}.0", f"{ours}.resnets.{layer}", _RESNET)
            if not is_coarsest:
                table[f"{theirs}.1"] = f"{ours}.attentions.{layer}"
        if not is_coarsest:
            downsampler = f"input_blocks.{first + encoder_layers}.0.op"
            table[downsampler] = f"down_blocks.{level}.downsamplers.0.conv"
    for level in range(levels):  # coarse to fine
        is_coarsest, is_finest = level == 0, level == levels - 1
        first = level * decoder_layers
        for layer in range(decoder_layers):
            theirs, ours = f"output_blocks.{first + layer}", f"up_blocks.{level}"
            table |= _join(f"{theirs}.0", f"{ours}.resnets.{layer}", _RESNET)
            if not is_coarsest:
                table[f"{theirs}.1"] = f"{ours}.attentions.{layer}"
        if not is_finest:
            upsampler = f"output_blocks.{first + encoder_layers}.{1 if is_coarsest else 2}"
            table[upsampler] = f"up_blocks.{level}.upsamplers.0"
    return table


def vae_layers(names: Iterable[str]) -> dict[str, str]:
    """Map CompVis' layer names of a VAE's encoder to diffusers'.

    Args:
        names: As in `unet_layers`.
    """
    names = list(names)
    levels = count(r"encoder\.down(_blocks)?\.\d+\.", names)
    layers = count(r"encoder\.(down\.0\.block|down_blocks\.0\.resnets)\.\d+\.", names)
    table = {
        "quant_conv": "quant_conv",
        "encoder.conv_in": "encoder.conv_in",
        **_join("encoder.mid.block_1", "encoder.mid_block.resnets.0", _VAE_RESNET),
        **_join("encoder.mid.attn_1", "encoder.mid_block.attentions.0", _VAE_ATTENTION),
        **_join("encoder.mid.block_2", "encoder.mid_block.resnets.1", _VAE_RESNET),
        "encoder.norm_out": "encoder.conv_norm_out",
        "encoder.conv_out": "encoder.conv_out",
    }
    for level in range(levels):
        theirs, ours = f"encoder.down.{level}", f"encoder.down_blocks.{level}"
        for layer in range(layers):
            table |= _join(f"{theirs}.block.{layer}", f"{ours}.resnets.{layer}", _VAE_RESNET)
        table[f"{theirs}.downsample"] = f"{ours}.downsamplers.0"
    return table


def _join(theirs: str, ours: str, layers: Mapping[str, str]) -> dict[str, str]:
    """Return the table of a block's layers with the block's two names in front."""
    return {f"{theirs}.{old}": f"{ours}.{new}" for old, new in layers.items()}


def _is_vae_attention(name: str) -> bool:
    return "encoder.mid_block.attentions." in name
