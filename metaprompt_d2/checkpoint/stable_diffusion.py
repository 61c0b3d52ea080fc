"""Load Stable Diffusion's weights into a model.

They come from a folder in diffusers' layout, a model on the Hugging Face hub, or one file in
CompVis' layout.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion import FeatureUNet, LatentEncoder, base_names
from ..utils.errors import InputError
from .names import below
from .report import LoadReport
from .sizes import sizes_from_configs, sizes_from_shapes
from .sources import open_source
from .tensor_files import non_finite

logger = logging.getLogger(__name__)

_PARTS = {"unet": FeatureUNet, "vae": LatentEncoder}
# Ends of the names of scales, by which quantized weights would have to be multiplied.
_SCALES = (".scale_weight", ".weight_scale", ".scale_input", ".SCB", ".absmax", "scaled_fp8")

# Prefix of tensors that the model doesn't have -> why.
_UNUSED = {
    "unet.time_embedding.": "time MLP: learned step embeddings take its place",
    "unet.conv_norm_out.": "output head: one refinement step does not read it",
    "unet.conv_out.": "output head: one refinement step does not read it",
    "unet.": "no counterpart in the UNet",
    "vae.decoder.": "VAE decoder: images are only encoded",
    "vae.post_quant_conv.": "VAE decoder: images are only encoded",
    "vae.": "no counterpart in the VAE encoder",
    "model_ema.": "moving averages: the recipe starts from the weights themselves",
    "cond_stage_model.": "text encoder: meta prompts take its place",
    "": "noise schedule and training state: no noise is added",
}


def load_diffusion_weights(model: nn.Module, source: str, *, strict: bool = True) -> LoadReport:
    """Load weights into every `FeatureUNet` and `LatentEncoder` within a model, and log a report.

    Only tensors that the model has are read.

    Args:
        model: Model with the diffusion parts somewhere in it.
        source: Folder with `unet/` and `vae/` as diffusers' `save_pretrained` writes them
            (safetensors or bin, sharded or not, also only as a variant such as "fp16"), the id of
            such a model on the Hugging Face hub (the hub's cache and HF_HUB_OFFLINE are respected),
            or a file in CompVis' layout. Any floating-point type.
        strict: Whether a tensor that the file lacks is an error. If False, it keeps its initial
            value.

    Raises:
        MissingFileError: The source exists neither here nor on the hub.
        InputError: The model has no diffusion part, or tensors don't fit (all are listed).
    """
    own = [
        (f"{part}.{name}", value)
        for part, kind in _PARTS.items()
        for module in model.modules()
        if isinstance(module, kind)
        for name, value in base_names(module.state_dict()).items()
    ]
    names = dict(own).keys()
    for part in _PARTS:
        if not any(name.startswith(f"{part}.") for name in names):
            raise InputError(
                f"MODEL.DIFFUSION.WEIGHTS is {source}, but the model has no diffusion {part}"
            )
    stored, configs = open_source(source)
    report = LoadReport(source, used=len(names & stored.keys()))
    report.missing += sorted(names - stored.keys())
    report.ignore(stored.keys() - names, _UNUSED)
    _check_kind(source, stored)
    problems = [
        f"{name}: {tuple(stored[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in own
        if name in stored and stored[name].shape != value.shape
    ]
    problems += [f"{name}: missing" for name in report.missing if strict]
    problems += [
        f"{name}: {stored[name].dtype} in the file, expected floating-point numbers"
        for name, value in own
        if name in stored and value.is_floating_point() and not stored[name].is_floating_point()
    ]
    if problems:
        raise InputError(_misfit_message(source, configs.get("unet", {}), problems))
    with torch.no_grad():
        filled = {name: value.copy_(stored[name]) for name, value in own if name in stored}
    if broken := sorted(non_finite(filled)):
        raise InputError(f"{source}: {len(broken)} tensors hold NaN or infinity: {broken}")
    logger.info("%s", report)
    return report


def diffusion_sizes(source: str) -> dict[str, Any]:
    """Find the sizes of a diffusion model, from its own config or else its tensors' shapes.

    Args:
        source: As in `load_diffusion_weights`.

    Returns:
        Values of keys below MODEL.DIFFUSION, e.g. {"UNET.BLOCK_OUT_CHANNELS": (320, ...)}.

    Raises:
        MissingFileError: The source exists neither here nor on the hub.
        InputError: The model has another structure than Stable Diffusion 1 and 2.
    """
    tensors, configs = open_source(source)
    try:
        if configs.keys() == _PARTS.keys():
            return sizes_from_configs(configs["unet"], configs["vae"])
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        sizes, unseen = sizes_from_shapes(below("unet.", shapes), below("vae.", shapes))
    except KeyError as error:
        raise InputError(f"{source}: config.json lacks the key {error}") from error
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    for key in unseen:
        logger.warning("%s does not tell %s: taken as %s, as published", source, key, sizes[key])
    return sizes


def _check_kind(source: str, stored: dict[str, Tensor]) -> None:
    """Refuse what has the names of Stable Diffusion, but other numbers or inputs.

    Raises:
        InputError: Weights are quantized with scales, or the UNet takes more than a latent.
    """
    if scales := sorted(name for name in stored if name.endswith(_SCALES)):
        raise InputError(
            f"{source} holds weights that are quantized with scales ({scales[0]}, {len(scales)} in "
            "all); expected weights themselves, of any floating-point type"
        )
    entry, moments = stored.get("unet.conv_in.weight"), stored.get("vae.quant_conv.weight")
    if entry is None or moments is None or entry.ndim != 4:
        return
    channels, latent = entry.shape[1], len(moments) // 2
    if channels > latent:
        kinds = {
            1: "a model conditioned on depth",
            3: "an upscaler",
            latent: "a model that edits images",
            latent + 1: "an inpainting model",
        }
        raise InputError(
            f"{source}: the UNet takes {channels} channels, its VAE's latents have {latent}: it is "
            f"{kinds.get(channels - latent, 'a model with further inputs')}, expected one that "
            "takes a noisy latent alone, such as Stable Diffusion's own"
        )


def _misfit_message(source: str, config: dict[str, Any], problems: list[str]) -> str:
    keys = ("block_out_channels", "layers_per_block", "cross_attention_dim", "attention_head_dim")
    stated = ", ".join(f"{key} {config[key]}" for key in keys if key in config)
    return (
        f"{source} does not fit the model ({stated and f'its config.json: {stated}; '}see "
        "MODEL.DIFFUSION.UNET.* and MODEL.DIFFUSION.VAE.*, or MODEL.DIFFUSION.SIZES_FROM_WEIGHTS). "
        f"{len(problems)} tensors:\n  " + "\n  ".join(problems)
    )
