"""Regenerate the random weights with which the official models computed the stored outputs.

Every tensor is a normal sample from a generator seeded with the tensor's name, scaled by its kind,
so that a fixture needs only names and shapes.
"""

import math
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from metaprompt_d2.checkpoint.compvis import UNET_PREFIX, VAE_PREFIX

SEED = 20231222

# Stable Diffusion's parts are drawn under CompVis' names, with or without depth's "encoder.".
_PREFIXES = {"unet.unet.diffusion_model.": UNET_PREFIX, "encoder_vq.": VAE_PREFIX}
_GAINS = {"decoder.deconv_layers.0.weight": 0.2, "last_layer_depth.2.weight": 12.0}
_GAINS |= {f"{head}.conv_seg.weight": 0.5 for head in ("decode_head", "auxiliary_head")}

# Tensors that the rule doesn't regenerate, or not bit by bit on every machine.
NOT_DRAWN = ("running_var", "last_layer_depth.2.bias")


def draw_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Draw all tensors but those of `NOT_DRAWN`, in float32 (the count of batches in int64).

    Args:
        shapes: Shapes of the tensors by their official names.
    """
    return {
        name: _draw(name, tuple(shape), shapes)
        for name, shape in shapes.items()
        if not name.endswith(NOT_DRAWN)
    }


def digest(weights: Mapping[str, Tensor]) -> int:
    """Return a checksum, which shows whether a machine draws the same numbers."""
    value = 0
    for name in sorted(weights):
        value = zlib.crc32(weights[name].numpy().tobytes(), value)
    return value


def _draw(name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> Tensor:
    layer, _, kind = name.rpartition(".")
    if kind == "num_batches_tracked":
        return torch.tensor(7)
    seed = (zlib.crc32(_drawn_name(name).encode()) ^ SEED) & 0x7FFFFFFF
    sample = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    is_norm = len(shapes.get(f"{layer}.weight", ())) == 1
    if kind == "running_mean":
        value = 0.3 * sample
    elif kind == "bias":
        value = 0.2 * sample
    elif kind != "weight":  # prompts and step embeddings
        value = sample
    elif is_norm:
        value = 1 + 0.25 * sample
    else:
        value = sample / math.sqrt(_fan_in(name, shape))
    return value * _GAINS.get(name, 1.0)


def _fan_in(name: str, shape: tuple[int, ...]) -> float:
    if "deconv_layers" in name:  # (in, out, k, k), all of stride 2
        return shape[0] * math.prod(shape[2:]) / 4
    return math.prod(shape[1:])


def _drawn_name(name: str) -> str:
    short = name.removeprefix("encoder.")
    for official, compvis in _PREFIXES.items():
        if short.startswith(official):
            return compvis + short.removeprefix(official)
    return name
