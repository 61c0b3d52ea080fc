"""Load Stable Diffusion's weights into a model.

They come from a folder in diffusers' layout, a model on the Hugging Face hub, or one file in
CompVis' layout.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from torch import Tensor, nn

from ..diffusion import FeatureUNet, LatentEncoder, base_names
from ..utils.errors import InputError, MissingFileError
from ..utils.files import read_json
from .compvis import UNET_PREFIX, VAE_PREFIX, from_compvis_unet, from_compvis_vae
from .report import LoadReport
from .sizes import sizes_from_configs, sizes_from_shapes
from .tensor_files import non_finite, open_tensors

logger = logging.getLogger(__name__)

_PARTS = {"unet": FeatureUNet, "vae": LatentEncoder}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_STEM = "diffusion_pytorch_model"
_FILES = (f"{_STEM}.safetensors", f"{_STEM}.bin")

# Prefix of tensors that the model doesn't have -> why.
_UNUSED = {
    "unet": [
        ("time_embedding.", "time MLP: learned step embeddings take its place"),
        ("conv_norm_out.", "output head: one refinement step does not read it"),
        ("conv_out.", "output head: one refinement step does not read it"),
        ("", "no counterpart in the UNet"),
    ],
    "vae": [
        ("decoder.", "VAE decoder: images are only encoded"),
        ("post_quant_conv.", "VAE decoder: images are only encoded"),
        ("", "no counterpart in the VAE encoder"),
    ],
    "others": [
        ("model_ema.", "moving averages: the recipe starts from the weights themselves"),
        ("cond_stage_model.", "text encoder: meta prompts take its place"),
        ("", "noise schedule and training state: no noise is added"),
    ],
}

# diffusers' former names in the VAE's attention, which the published folders still have.
_FORMER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class _DiffusionFile:
    """Stable Diffusion's tensors under diffusers' names, mapped from their files."""

    unet: dict[str, Tensor]
    vae: dict[str, Tensor]
    others: tuple[str, ...] = ()  # names of other tensors in the file
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)  # config.json of the parts


def load_diffusion_weights(model: nn.Module, source: str, *, strict: bool = True) -> LoadReport:
    """Load weights into every `FeatureUNet` and `LatentEncoder` within a model, and log a report.

    Only tensors that the model has are read.

    Args:
        model: Model with the diffusion parts somewhere in it.
        source: Folder with `unet/` and `vae/` as diffusers' `save_pretrained` writes them
            (safetensors or bin, sharded or not), the id of such a model on the Hugging Face hub
            (the hub's cache and HF_HUB_OFFLINE are respected), or a file in CompVis' layout
            (`.safetensors`, `.ckpt`). Any floating-point type.
        strict: Whether a tensor that the file lacks is an error. If False, it keeps its initial
            value.

    Raises:
        MissingFileError: There is no such folder or file, here or on the hub.
        InputError: The model has no diffusion part, or tensors don't fit (all are listed).
    """
    modules = {
        part: [module for module in model.modules() if isinstance(module, kind)]
        for part, kind in _PARTS.items()
    }
    for part, found in modules.items():
        if not found:
            raise InputError(
                f"MODEL.DIFFUSION.WEIGHTS is {source}, but the model has no diffusion {part}"
            )
    file = _open(source)
    report = LoadReport(source)
    report.ignore(file.others, _UNUSED["others"])
    problems = []
    for part, found in modules.items():
        stored = getattr(file, part)
        own = {name for module in found for name in base_names(module.state_dict())}
        report.used += len(own & stored.keys())
        report.missing += sorted(f"{part}.{name}" for name in own - stored.keys())
        report.ignore(stored.keys() - own, _UNUSED[part])
        problems += [line for module in found for line in _misfits(part, module, stored)]
    if strict:
        problems += [f"{name}: missing" for name in report.missing]
    if problems:
        raise InputError(_misfit_message(source, file, problems))
    broken = [
        f"{part}.{name}"
        for part, found in modules.items()
        for module in found
        for name in _fill(module, getattr(file, part))
    ]
    if broken:
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
        MissingFileError: There is no such folder or file, here or on the hub.
        InputError: The model has another structure than Stable Diffusion 1 and 2.
    """
    file = _open(source)
    if file.configs.keys() == _PARTS.keys():
        try:
            return sizes_from_configs(file.configs["unet"], file.configs["vae"])
        except KeyError as error:
            raise InputError(f"{source}: config.json lacks the key {error}") from error
    unet, vae = (
        {name: tuple(tensor.shape) for name, tensor in part.items()}
        for part in (file.unet, file.vae)
    )
    sizes, unseen = sizes_from_shapes(unet, vae)
    for key in unseen:
        logger.warning("%s does not tell %s: taken as %s, as published", source, key, sizes[key])
    return sizes


def _open(source: str) -> _DiffusionFile:
    path = Path(source)
    if path.is_file():
        return _open_compvis(path)
    if path.is_dir():
        return _open_diffusers(source, lambda name: _existing(path / name))
    if _HUB_ID.fullmatch(source):
        return _open_diffusers(source, lambda name: _from_hub(source, name))
    raise MissingFileError(
        f"MODEL.DIFFUSION.WEIGHTS: {source} is neither a folder in diffusers' layout, nor a file "
        "in CompVis' layout, nor the hub's owner/name of a model"
    )


def _open_compvis(path: Path) -> _DiffusionFile:
    tensors = open_tensors(path)
    unet, vae = (
        {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
        for start in (UNET_PREFIX, VAE_PREFIX)
    )
    for start, found in ((UNET_PREFIX, unet), (VAE_PREFIX, vae)):
        if not found:
            raise InputError(
                f"{path} has no tensor {start}*: it isn't a Stable Diffusion file in CompVis' "
                "layout"
            )
    others = (name for name in tensors if not name.startswith((UNET_PREFIX, VAE_PREFIX)))
    return _DiffusionFile(from_compvis_unet(unet), from_compvis_vae(vae), tuple(others))


def _open_diffusers(source: str, find: Callable[[str], Path | None]) -> _DiffusionFile:
    """Open a model in diffusers' layout.

    Args:
        source: Folder or id of the model.
        find: Returns the local path of a file of the model, or None if the model lacks it.
    """
    parts, configs = {}, {}
    for part in _PARTS:
        config = find(f"{part}/config.json")
        if config is not None:
            configs[part] = read_json(config)
        parts[part] = _open_part(source, part, find)
    vae = {_current_name(name): tensor for name, tensor in parts["vae"].items()}
    return _DiffusionFile(parts["unet"], vae, configs=configs)


def _open_part(source: str, part: str, find: Callable[[str], Path | None]) -> dict[str, Tensor]:
    for name in _FILES:
        file = find(f"{part}/{name}")
        if file is not None:
            return open_tensors(file)
        index = find(f"{part}/{name}.index.json")
        if index is None:
            continue
        tensors: dict[str, Tensor] = {}
        for shard in sorted(set(read_json(index)["weight_map"].values())):
            file = find(f"{part}/{shard}")
            if file is None:
                raise MissingFileError(f"{source}/{part} lacks {shard}, which {index.name} names")
            tensors |= open_tensors(file)
        return tensors
    raise MissingFileError(
        f"MODEL.DIFFUSION.WEIGHTS: {source}/{part} holds none of {', '.join(_FILES)}; expected a "
        "folder in diffusers' layout with unet/ and vae/, here or on the hub (offline: in its "
        "cache)"
    )


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _from_hub(repository: str, name: str) -> Path | None:
    try:
        return Path(hf_hub_download(repository, name))
    except RepositoryNotFoundError as error:
        raise MissingFileError(
            f"MODEL.DIFFUSION.WEIGHTS: {repository} is neither a folder here nor a model on the hub"
        ) from error
    except (EntryNotFoundError, OfflineModeIsEnabled):  # not in the model, or not in the cache
        return None
    except HfHubHTTPError as error:
        raise MissingFileError(
            f"MODEL.DIFFUSION.WEIGHTS: {repository} cannot be read from the hub: {error}"
        ) from error


def _current_name(name: str) -> str:
    """Return a VAE tensor's name in today's diffusers."""
    if ".attentions." not in name:
        return name
    start, layer, kind = name.rsplit(".", 2)
    return f"{start}.{_FORMER_NAMES.get(layer, layer)}.{kind}"


def _misfits(part: str, module: nn.Module, stored: Mapping[str, Tensor]) -> list[str]:
    """List the tensors of other shapes in the file."""
    own: dict[str, Tensor] = base_names(module.state_dict())
    return [
        f"{part}.{name}: {tuple(stored[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in own.items()
        if name in stored and stored[name].shape != value.shape
    ]


@torch.no_grad()
def _fill(module: nn.Module, stored: Mapping[str, Tensor]) -> list[str]:
    """Copy tensors into a module. Returns the names of those that hold NaN or infinity."""
    own: dict[str, Tensor] = base_names(module.state_dict())
    filled = {name: value.copy_(stored[name]) for name, value in own.items() if name in stored}
    return sorted(non_finite(filled))


def _misfit_message(source: str, file: _DiffusionFile, problems: list[str]) -> str:
    config = file.configs.get("unet", {})
    keys = ("block_out_channels", "layers_per_block", "cross_attention_dim", "attention_head_dim")
    stated = ", ".join(f"{key} {config[key]}" for key in keys if key in config)
    return (
        f"{source} does not fit the model ({stated and f'its config.json: {stated}; '}see "
        "MODEL.DIFFUSION.UNET.* and MODEL.DIFFUSION.VAE.*, or MODEL.DIFFUSION.SIZES_FROM_WEIGHTS). "
        f"{len(problems)} tensors:\n  " + "\n  ".join(problems)
    )
