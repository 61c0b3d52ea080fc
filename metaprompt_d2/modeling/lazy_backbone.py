"""The backbone as a node of a LazyConfig."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from ..diffusion import (
    FeatureUNet,
    FusedRearrangement,
    LatentEncoder,
    MetaPrompts,
    PyramidRearrangement,
    RecurrentRefinement,
)
from ..utils.errors import InputError
from .backbone import MetaPromptBackbone

_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
}
_UNET: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "num_heads": 8,
    "norm_num_groups": 32,
    "linear_projection": False,
}
_UNET_2 = {"cross_attention_dim": 1024, "num_heads": (5, 10, 20, 20), "linear_projection": True}
_MINI_VAE = {
    "block_out_channels": (16, 32, 48, 64),
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 8,
}
_MINI_UNET = {
    "block_out_channels": (48, 64, 96, 96),
    "layers_per_block": 1,
    "cross_attention_dim": 64,
    "num_heads": 4,
    "norm_num_groups": 16,
    "linear_projection": False,
}
# Name of a diffusion model -> arguments of `LatentEncoder` and of `FeatureUNet`.
_PRESETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sd1.5": (_VAE, _UNET),
    "sd2": (_VAE, _UNET | _UNET_2),
    "mini": (_MINI_VAE, _MINI_UNET),
}


def meta_prompt_backbone(
    preset: str = "sd1.5",
    *,
    num_prompts: int = 150,
    num_steps: int = 3,
    per_step: bool = False,
    adapter: bool = False,
    rearrange: str = "pyramid",
    norm_num_groups: int = 16,
    deconv_channels: int = 32,
    out_features: Sequence[str] = (),
    freeze_unet: bool = False,
    gradient_checkpointing: bool = False,
    checkpointed_levels: Sequence[int] = (),
    lora: Mapping[str, Any] | None = None,
    diffusion_weights: str = "",
) -> DictConfig:
    """Describe a `MetaPromptBackbone` for a LazyConfig; `instantiate` builds it.

    The result is made of `LazyCall` nodes, and each argument of each part can be changed or
    overridden afterwards: `model.backbone.refinement.unet.num_heads=4`. What has to agree is
    interpolated.

    Args:
        preset: Sizes of the diffusion model: "sd1.5" (all of Stable Diffusion 1), "sd2" or "mini"
            (that of `configs/mini`).
        num_prompts: Number of meta prompts.
        num_steps: Refinement steps.
        per_step: Whether every step has its own prompts (and adapter).
        adapter: Whether prompts pass through a two-layer adapter.
        rearrange: "pyramid" (p2 to p5), "fused" (p3) or "none" (raw maps up3 to up6).
        norm_num_groups: Groups of the rearrangement's norms.
        deconv_channels: Channels between the transposed convolutions of "fused".
        out_features, freeze_unet, gradient_checkpointing, checkpointed_levels, lora,
            diffusion_weights: As in `MetaPromptBackbone`.

    Raises:
        InputError: `preset` or `rearrange` is unknown.
    """
    if preset not in _PRESETS:
        raise InputError(f"preset is {preset!r}, expected one of {list(_PRESETS)}")
    vae, unet = _PRESETS[preset]
    return L(MetaPromptBackbone)(
        latent_encoder=L(LatentEncoder)(**vae),
        refinement=L(RecurrentRefinement)(
            unet=L(FeatureUNet)(latent_channels="${...latent_encoder.latent_channels}", **unet),
            meta_prompts=L(MetaPrompts)(
                num_prompts=num_prompts,
                dim="${..unet.cross_attention_dim}",
                num_steps="${..num_steps}",
                per_step=per_step,
                adapter=adapter,
            ),
            num_steps=num_steps,
        ),
        rearrangement=_describe_rearrangement(rearrange, norm_num_groups, deconv_channels),
        freeze_unet=freeze_unet,
        gradient_checkpointing=gradient_checkpointing,
        checkpointed_levels=checkpointed_levels,
        lora=lora,
        out_features=out_features,
        diffusion_weights=diffusion_weights,
    )


def _describe_rearrangement(
    kind: str, norm_num_groups: int, deconv_channels: int
) -> DictConfig | None:
    shared = {
        "in_channels": "${..refinement.unet.block_out_channels}",
        "prompt_dim": "${..refinement.unet.cross_attention_dim}",
        "norm_num_groups": norm_num_groups,
    }
    if kind == "pyramid":
        return L(PyramidRearrangement)(**shared)
    if kind == "fused":
        return L(FusedRearrangement)(**shared, deconv_channels=deconv_channels)
    if kind == "none":
        return None
    raise InputError(f"rearrange is {kind!r}, expected 'pyramid', 'fused' or 'none'")
