"""Convert Mask2Former's weights: its authors' layout, transformers' and that of our head."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..utils.errors import InputError
from .mask2former_names import BACKBONES, TRANSFORMER, TRANSFORMERS, VERSIONS, detectron2_layers
from .names import match_names, rename, unwrap, unwrapped
from .versions import with_versions

# Layouts of others, and what they are.
MASK2FORMER_LAYOUTS = {
    "mask2former": "Mask2Former's published layout for Detectron2",
    "transformers": "the layout of transformers' Mask2FormerForUniversalSegmentation",
}

# Layout -> a prefix that only its names have.
_SIGNS = {
    "ours": "sem_seg_head.decoders.",
    "mask2former": "sem_seg_head.pixel_decoder.",
    "transformers": "model.pixel_level_module.decoder.",
}

# Self-attention has one tensor for queries, keys and values in the authors' layout only.
_SELF_ATTENTION = rf"({TRANSFORMER}\.decoder\.layers\.\d+\.self_attn\.)"
_JOINED = re.compile(rf"{_SELF_ATTENTION}in_proj_(weight|bias)")
_QUERY = re.compile(rf"{_SELF_ATTENTION}q_proj\.(weight|bias)")


def mask2former_layout(names: Iterable[str]) -> str | None:
    """Return the layout of names: "ours", "mask2former", "transformers", or None for others."""
    plain = [unwrapped(name) for name in names]
    for layout, sign in _SIGNS.items():
        if any(name.startswith(sign) for name in plain):
            return layout
    return None


def from_mask2former(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights to the names of a model with our head, without copies.

    Args:
        state_dict: Tensors in any layout. Names may have what DDP and torch.compile add.

    Returns:
        The tensors. Those that the head doesn't have, such as the backbone's, keep their names.

    Raises:
        InputError: Two names mean the same tensor, or a tensor of queries, keys and values can't be
            divided (all are listed).
    """
    named = unwrap(state_dict)
    layout = mask2former_layout(named)
    if layout not in MASK2FORMER_LAYOUTS:
        return named
    table = TRANSFORMERS if layout == "transformers" else detectron2_layers(named)
    named = match_names(named, {name: rename(name, table) or name for name in named})
    return _split(named) if layout == "mask2former" else named


def to_mask2former(weights: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Convert weights from our names to another layout, the inverse of `from_mask2former`.

    A backbone that the layout doesn't have is left out.

    Args:
        weights: Tensors under our names.
        layout: "mask2former" or "transformers".

    Returns:
        The state dict. In the authors' layout it says the versions of its names, as theirs do:
        their code renames tensors of state dicts without versions.

    Raises:
        InputError: Parts of self-attentions are missing (the first is named).
    """
    kept = {n: v for n, v in weights.items() if not n.startswith(BACKBONES[layout])}
    if layout == "transformers":
        inverse = {ours: theirs for theirs, ours in TRANSFORMERS.items()}
        return {rename(name, inverse) or name: value for name, value in kept.items()}
    inverse = {ours: theirs for theirs, ours in detectron2_layers(kept).items()}
    joined = _join(kept).items()
    return with_versions({rename(name, inverse) or name: v for name, v in joined}, VERSIONS)


def _split(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split the tensors of the head's self-attentions into those of queries, keys and values."""
    split, problems = {}, []
    for name, value in named.items():
        if not (match := _JOINED.fullmatch(name)):
            split[name] = value
        elif value.ndim and value.shape[0] % 3 == 0:
            parts = value.tensor_split(3)
            split |= {
                f"{match[1]}{k}_proj.{match[2]}": v for k, v in zip("qkv", parts, strict=True)
            }
        else:
            problems.append(f"{name}: {tuple(value.shape)}")
    if problems:
        raise InputError(
            "expected queries, keys and values of the same size in:\n  " + "\n  ".join(problems)
        )
    return split


def _join(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Invert `_split`."""
    joined = dict(named)
    for match in filter(None, map(_QUERY.fullmatch, named)):
        parts = [f"{match[1]}{k}_proj.{match[2]}" for k in "qkv"]
        if missing := [part for part in parts if part not in named]:
            raise InputError(f"{missing[0]} is missing")
        joined[f"{match[1]}in_proj_{match[2]}"] = torch.cat([joined.pop(part) for part in parts])
    return joined
