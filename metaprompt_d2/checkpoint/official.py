"""The official MetaPrompts segmentation checkpoints under this package's names."""

import re

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from torch import Tensor

__all__ = ["from_official_sem_seg", "is_official_sem_seg"]

_UNET = "unet.unet.diffusion_model."
_VAE = "encoder_vq."
# Dead tensors of the official files: the diffusion schedule, the time MLP and the decoder's conv.
_UNUSED = ("sd_model.", f"{_UNET}time_embed.", f"{_VAE}post_quant_conv.")

# Regular expression on the official name -> our name. Steps count from 1 there and from 0 here.
_RENAMES = [
    (r"^t(\d+)$", lambda m: f"backbone.refinement.step_embeddings.{int(m[1]) - 1}"),
    (r"^meta_prompts$", r"backbone.refinement.meta_prompts.embeddings.0"),
    (r"^upconv(\d)\.", lambda m: f"backbone.rearrangement.projections.{int(m[1]) - 1}."),
    (r"^decode_head\.psp_modules\.(\d)\.1\.", r"sem_seg_head.pyramid_pooling.\1.1."),
    (r"^decode_head\.lateral_convs\.", r"sem_seg_head.laterals."),
    (r"^decode_head\.fpn_convs\.", r"sem_seg_head.outputs."),
    (r"^decode_head\.fpn_bottleneck\.", r"sem_seg_head.fuse."),
    (r"^decode_head\.bottleneck\.", r"sem_seg_head.bottleneck."),
    (r"^decode_head\.conv_seg\.", r"sem_seg_head.predictor."),
    (r"^auxiliary_head\.convs\.0\.", r"sem_seg_head.aux_head.0."),
    (r"^auxiliary_head\.conv_seg\.", r"sem_seg_head.aux_head.2."),
]


def is_official_sem_seg(state_dict: dict[str, Tensor]) -> bool:
    """Whether the names are those of the official segmentation model."""
    return "meta_prompts" in state_dict and f"{_UNET}input_blocks.0.0.weight" in state_dict


def from_official_sem_seg(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """
    Args:
        state_dict: of the official segmentation model (method section 4.3), whole.

    Returns:
        the tensors that a `SlidingWindowSegmentor` with `UPerHead` has, under its names.

    Raises:
        ValueError: a name of neither side, or copies of the output head that differ.
    """
    unet, vae, rest = {}, {}, {}
    for name, value in state_dict.items():
        if name.startswith(_UNUSED):
            continue
        if name.startswith(_UNET):
            unet[f"model.diffusion_model.{name.removeprefix(_UNET)}"] = value
        elif name.startswith(_VAE):
            vae[f"first_stage_model.{name.removeprefix(_VAE)}"] = value
        elif match := re.match(r"^cross_unet_conv\d\.(.*)$", name):
            if not torch.equal(value, state_dict[f"{_UNET}out.{match[1]}"]):
                raise ValueError(f"{name} differs from the UNet's output head, whose copy it is")
        else:
            rest[_our_name(name)] = value
    return {
        **{f"backbone.refinement.unet.{k}": v for k, v in _convert_unet(unet).items()},
        **{f"backbone.latent_encoder.{k}": v for k, v in _convert_vae(vae).items()},
        **rest,
    }


def _our_name(name: str) -> str:
    for pattern, replacement in _RENAMES:
        ours, count = re.subn(pattern, replacement, name)
        if count:
            # mmcv's conv module against Detectron2's convolution with a norm inside
            return ours.replace(".conv.", ".").replace(".bn.", ".norm.")
    raise ValueError(f"{name!r} is no name of the official segmentation model")


def _convert_unet(unet: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "model.diffusion_model.input_blocks."
    first_downsampler = next(
        index for index in range(1, len(unet)) if f"{prefix}{index}.0.op.weight" in unet
    )
    config = {"layers_per_block": first_downsampler - 1}
    config |= {"class_embed_type": None, "addition_embed_type": None}
    return convert_ldm_unet_checkpoint(unet, config)


def _convert_vae(vae: dict[str, Tensor]) -> dict[str, Tensor]:
    levels = {match[1] for name in vae if (match := re.search(r"encoder\.down\.(\d+)\.", name))}
    blocks = [None] * len(levels)
    return convert_ldm_vae_checkpoint(vae, {"down_block_types": blocks, "up_block_types": blocks})
