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
_MID_ATTENTION = "encoder.mid_block.attentions."  # of the VAE in diffusers


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
    renamed = ((rename(name, layers) or name, value) for name, value in tensors.items())
    return {name: squeeze_attention(name, value) for name, value in renamed}


def squeeze_attention(name: str, value: Tensor) -> Tensor:
    """Turn a 1x1 convolution of the VAE encoder's attention into a matrix, as diffusers has it.

    Other tensors are returned unchanged. The name is diffusers'.
    """
    return value[:, :, 0, 0] if _MID_ATTENTION in name and value.ndim == 4 else value


def unsqueeze_attention(name: str, value: Tensor) -> Tensor:
    """Undo `squeeze_attention`."""
    return value[:, :, None, None] if _MID_ATTENTION in name and value.ndim == 2 else value


def unet_layers(names: Iterable[str]) -> dict[str, str]:
    """Map CompVis' layer names of a UNet to diffusers'.

    Args:
        names: Names of the UNet's tensors in either layout, which tell the numbers of levels and
            layers. Any prefix is allowed.
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
        ours, first = f"down_blocks.{level}", 1 + level * decoder_layers
        for layer in range(encoder_layers):
            theirs = f"input_blocks.{first + layer}"
            table |= _join(f"{theirs}.0", f"{ours}.resnets.{layer}", _RESNET)
            if level < levels - 1:
                table[f"{theirs}.1"] = f"{ours}.attentions.{layer}"
        table[f"input_blocks.{first + encoder_layers}.0.op"] = f"{ours}.downsamplers.0.conv"
    for level in range(levels):  # coarse to fine
        ours, first = f"up_blocks.{level}", level * decoder_layers
        for layer in range(decoder_layers):
            theirs = f"output_blocks.{first + layer}"
            table |= _join(f"{theirs}.0", f"{ours}.resnets.{layer}", _RESNET)
            if level > 0:
                table[f"{theirs}.1"] = f"{ours}.attentions.{layer}"
        upsampler = f"output_blocks.{first + encoder_layers}.{2 if level > 0 else 1}"
        table[upsampler] = f"{ours}.upsamplers.0"
    return table


def vae_layers(names: Iterable[str]) -> dict[str, str]:
    """Map CompVis' layer names of a VAE's encoder to diffusers', as `unet_layers` does."""
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
