"""Low-rank adapters (LoRA, arXiv 2106.09685) on the UNet, through peft."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

from ..utils.errors import InputError
from .unet import FeatureUNet

Value = TypeVar("Value")

# peft's names of an adapter's base layer and of its factors.
_BASE, _FACTOR = ".base_layer.", ".lora_"


def add_lora(unet: FeatureUNet, *, rank: int, alpha: float, targets: Sequence[str]) -> None:
    """Freeze a UNet and add trainable adapters, W + alpha / rank * B A, to some of its layers.

    B starts at zero, so the outputs don't change.

    Args:
        unet: The UNet to change. `to_q.weight` becomes `to_q.base_layer.weight` and so on.
        rank: Rows of A.
        alpha: Numerator of the adapters' scale.
        targets: Suffixes of the names of linear layers and convolutions, such as "to_q".

    Raises:
        ModuleNotFoundError: peft is not installed.
        InputError: No layer has one of the suffixes.
    """
    try:
        from peft import LoraConfig
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "LoRA needs peft, this package's extra \"lora\": pip install 'peft>=0.17'"
        ) from error
    layers = [n for n, m in unet.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    unknown = [end for end in targets if not any(f".{name}".endswith(f".{end}") for name in layers)]
    if unknown or not targets:
        raise InputError(
            f"targets is {tuple(targets)}, expected suffixes of names of the UNet's linear layers "
            f"or convolutions, such as 'to_q', 'ff.net.2', 'conv1'; no name ends with {unknown}"
        )
    unet.requires_grad_(False)
    scale: Any = alpha  # peft's annotation says int, but floats work
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=scale, target_modules=list(targets)))


def merge_lora(model: nn.Module) -> None:
    """Add the adapters of all UNets of a model to their base weights, in place.

    `base_names` of the state dict then gives the sums under the names of a plain UNet.
    """
    for unet in model.modules():
        if isinstance(unet, FeatureUNet) and any(map(is_adapter, unet.state_dict())):
            unet.fuse_lora()


def is_adapter(name: str) -> bool:
    """Return whether a parameter is a factor of an adapter."""
    return _FACTOR in name


def base_names(named: Mapping[str, Value]) -> dict[str, Value]:
    """Drop adapters from a state dict and rename the rest as in a model without them."""
    return {name.replace(_BASE, "."): v for name, v in named.items() if not is_adapter(name)}
