"""Stable Diffusion weights from a folder in diffusers' layout, into the parts a model has."""

import json
import logging
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..diffusion import FeatureUNet, LatentEncoder

__all__ = ["load_diffusion_weights"]

logger = logging.getLogger(__name__)

_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def load_diffusion_weights(model: nn.Module, folder: str) -> None:
    """Fill every `FeatureUNet` and `LatentEncoder` within a model.

    Tensors that the model has no use for (time MLP, VAE decoder) are left out and counted in the
    log; a tensor that is missing or has another shape is an error.

    Args:
        model: with the diffusion parts somewhere in it.
        folder: with `unet/` and `vae/`, as diffusers' `save_pretrained` writes them, in any
            floating-point precision.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: the model has no diffusion part, or tensors that don't fit (all are listed).
    """
    parts = {"unet": FeatureUNet, "vae": LatentEncoder}
    for name, kind in parts.items():
        modules = [module for module in model.modules() if isinstance(module, kind)]
        if not modules:
            raise ValueError(
                f"MODEL.DIFFUSION.WEIGHTS is {folder}, but the model has no diffusion {name}"
            )
        tensors = _read_part(Path(folder) / name)
        for module in modules:
            _fill(module, tensors, f"{folder}/{name}")


def _read_part(folder: Path) -> dict[str, Tensor]:
    for name in _FILES:
        file = folder / name
        if file.is_file():
            if file.suffix == ".safetensors":
                return load_file(file)
            return torch.load(file, map_location="cpu", weights_only=True)
    raise FileNotFoundError(
        f"MODEL.DIFFUSION.WEIGHTS: {folder} holds none of {', '.join(_FILES)}; expected a folder "
        "in diffusers' layout with unet/ and vae/"
    )


def _fill(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Copy tensors into a module; whatever doesn't fit is listed in one error."""
    own = module.state_dict()
    problems = [f"{name}: missing" for name in own if name not in tensors]
    problems += [
        f"{name}: {tuple(tensors[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    problems += [
        f"{name}: holds NaN or infinity"
        for name in own
        if name in tensors and not torch.isfinite(tensors[name]).all()
    ]
    if problems:
        raise ValueError(
            f"{source} does not fit the model ({_sizes_of(source)}; see MODEL.DIFFUSION.UNET.* "
            f"and MODEL.DIFFUSION.VAE.*). {len(problems)} tensors:\n  " + "\n  ".join(problems)
        )
    module.load_state_dict({name: tensors[name] for name in own})
    logger.info(
        "%s: %d tensors used, %d ignored (parts without a use here)",
        source,
        len(own),
        len(tensors) - len(own),
    )


def _sizes_of(source: str) -> str:
    """The sizes that the folder's own config states, for messages."""
    config_file = Path(source) / "config.json"
    if not config_file.is_file():
        return "the folder has no config.json"
    config = json.loads(config_file.read_text())
    keys = ("block_out_channels", "layers_per_block", "cross_attention_dim", "attention_head_dim")
    return "its config.json: " + ", ".join(f"{key} {config[key]}" for key in keys if key in config)
