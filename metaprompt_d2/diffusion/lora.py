"""Low-rank adapters (LoRA, arXiv 2106.09685) on the UNet, through peft."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import nn

from ..utils.errors import InputError
from .sizes import check_at_least_one
from .unet import FeatureUNet

__all__ = ["add_lora", "base_names", "is_adapter", "merge_lora"]

Value = TypeVar("Value")

# How peft names the layer below an adapter, and the adapter's own factors.
_BASE, _FACTOR = ".base_layer.", ".lora_"


def add_lora(unet: FeatureUNet, *, rank: int, alpha: float, targets: Sequence[str]) -> None:
    """Freeze a UNet and add trainable W + alpha / rank * B A to some of its layers.

    B starts at zero: the outputs are what they were.

    Args:
        unet: changed in place; `to_q.weight` becomes `to_q.base_layer.weight` and so on.
        rank: rows of A.
        alpha: numerator of the adapters' scale.
        targets: ends of the names of linear layers and convolutions, such as "to_q".

    Raises:
        ModuleNotFoundError: peft is not installed.
        InputError: a rank below 1, or a target that no layer has.
    """
    check_at_least_one("MODEL.DIFFUSION.LORA.RANK", rank)
    try:
        from peft import LoraConfig
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'MODEL.DIFFUSION.LORA.RANK needs peft, this package\'s extra "lora": '
            "pip install 'peft>=0.17'"
        ) from error
    layers = [n for n, m in unet.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    unknown = [end for end in targets if not any(f".{name}".endswith(f".{end}") for name in layers)]
    if unknown or not targets:
        raise InputError(
            f"MODEL.DIFFUSION.LORA.TARGETS is {tuple(targets)}, expected ends of names of the "
            f"UNet's linear layers or convolutions, as 'to_q', 'ff.net.2', 'conv1'; none ends on "
            f"{unknown}"
        )
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets)))


def merge_lora(model: nn.Module) -> None:
    """Add the adapters of every UNet of a model to the weights below them, in place.

    The state dict then holds the sums, under `base_names`.
    """
    for unet in model.modules():
        if isinstance(unet, FeatureUNet) and any(map(is_adapter, unet.state_dict())):
            unet.fuse_lora()
            unet.kept_projections.forget()  # peft writes through `Tensor.data`


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is that of a factor of an adapter."""
    return _FACTOR in name


def base_names(named: Mapping[str, Value]) -> dict[str, Value]:
    """What a state dict holds besides adapters, under the names of the model without them."""
    return {
        name.replace(_BASE, "."): value for name, value in named.items() if not is_adapter(name)
    }
