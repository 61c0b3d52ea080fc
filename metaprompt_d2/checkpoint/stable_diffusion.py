"""Load Stable Diffusion's weights into a model.

They come from a folder in diffusers' layout, a model on the Hugging Face hub, or one file in
CompVis' layout.
"""

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
from .names import below
from .report import LoadReport
from .sizes import sizes_from_configs, sizes_from_shapes
from .tensor_files import non_finite, open_tensors

logger = logging.getLogger(__name__)

_PARTS = {"unet": FeatureUNet, "vae": LatentEncoder}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")

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

# diffusers' former names in the VAE's attention, which the published folders still have.
_FORMER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class _Source(NamedTuple):
    """Stable Diffusion's tensors, mapped from their files."""

    # Under diffusers' names after "unet." or "vae."; others under their names in the file.
    tensors: dict[str, Tensor]
    configs: dict[str, dict[str, Any]]  # config.json of the parts, empty for CompVis' layout


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
    stored, configs = _open(source)
    report = LoadReport(source, used=len(names & stored.keys()))
    report.missing += sorted(names - stored.keys())
    report.ignore(stored.keys() - names, _UNUSED)
    problems = [
        f"{name}: {tuple(stored[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in own
        if name in stored and stored[name].shape != value.shape
    ]
    problems += [f"{name}: missing" for name in report.missing if strict]
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
    tensors, configs = _open(source)
    if configs.keys() == _PARTS.keys():
        try:
            return sizes_from_configs(configs["unet"], configs["vae"])
        except KeyError as error:
            raise InputError(f"{source}: config.json lacks the key {error}") from error
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    sizes, unseen = sizes_from_shapes(below("unet.", shapes), below("vae.", shapes))
    for key in unseen:
        logger.warning("%s does not tell %s: taken as %s, as published", source, key, sizes[key])
    return sizes


def _open(source: str) -> _Source:
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


def _open_compvis(path: Path) -> _Source:
    rest = open_tensors(path)
    tensors: dict[str, Tensor] = {}
    for part, prefix, convert in (
        ("unet", UNET_PREFIX, from_compvis_unet),
        ("vae", VAE_PREFIX, from_compvis_vae),
    ):
        found = below(prefix, rest)
        if not found:
            raise InputError(
                f"{path} has no tensor {prefix}*: it isn't a Stable Diffusion file in CompVis' "
                "layout"
            )
        tensors |= {f"{part}.{name}": tensor for name, tensor in convert(found).items()}
        rest = {name: tensor for name, tensor in rest.items() if not name.startswith(prefix)}
    return _Source(tensors | rest, {})


def _open_diffusers(source: str, find: Callable[[str], Path | None]) -> _Source:
    """Open a model in diffusers' layout.

    Args:
        source: Folder or id of the model.
        find: Returns the local path of a file of the model, or None if the model lacks it.
    """
    tensors, configs = {}, {}
    for part in _PARTS:
        if config := find(f"{part}/config.json"):
            configs[part] = read_json(config)
        for file in _find_files(source, part, find):
            for name, tensor in open_tensors(file).items():
                tensors[_current_name(f"{part}.{name}")] = tensor
    return _Source(tensors, configs)


def _find_files(source: str, part: str, find: Callable[[str], Path | None]) -> Iterator[Path]:
    """Find a part's file, or all files that it is split into."""
    for name in _FILES:
        if file := find(f"{part}/{name}"):
            yield file
            return
        if index := find(f"{part}/{name}.index.json"):
            for shard in sorted(set(read_json(index)["weight_map"].values())):
                file = find(f"{part}/{shard}")
                if file is None:
                    raise MissingFileError(
                        f"{source}/{part} lacks {shard}, which {index.name} names"
                    )
                yield file
            return
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
    """Return a tensor's name in today's diffusers."""
    if ".attentions." not in name:
        return name
    start, layer, kind = name.rsplit(".", 2)
    return f"{start}.{_FORMER_NAMES.get(layer, layer)}.{kind}"


def _misfit_message(source: str, config: dict[str, Any], problems: list[str]) -> str:
    keys = ("block_out_channels", "layers_per_block", "cross_attention_dim", "attention_head_dim")
    stated = ", ".join(f"{key} {config[key]}" for key in keys if key in config)
    return (
        f"{source} does not fit the model ({stated and f'its config.json: {stated}; '}see "
        "MODEL.DIFFUSION.UNET.* and MODEL.DIFFUSION.VAE.*, or MODEL.DIFFUSION.SIZES_FROM_WEIGHTS). "
        f"{len(problems)} tensors:\n  " + "\n  ".join(problems)
    )
