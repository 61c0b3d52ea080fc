"""Networks with half precision weights inside a float32 model."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..latent_encoder import LatentEncoder
from ..meta_prompts import MetaPrompts
from ..unet import FeatureUNet


def convert_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert a model's VAE and UNet to half precision, in place, and let them run in it.

    The few adapters of prompts stay in float32.
    """
    for module in model.modules():
        if isinstance(module, FeatureUNet | LatentEncoder):
            nn.Module.to(module, dtype)  # diffusers' own `to` warns about conversions
        if isinstance(module, FeatureUNet | LatentEncoder | MetaPrompts):
            run_in_own_precision(module)


def run_in_own_precision(network: nn.Module) -> None:
    """Let a network cast its inputs to the type of its weights and ignore autocast.

    Autocast would still run some layers, such as norms on GPUs, in float32.
    """
    for name in ("forward", "predict_latent"):
        if hasattr(network, name):
            setattr(network, name, partial(_run, network, name))


def _run(network: nn.Module, name: str, *inputs: Any) -> Any:
    weight = next(network.parameters())  # of the first convolution, not of an adapter
    cast = [x.to(weight.dtype) if isinstance(x, Tensor) else x for x in inputs]
    with torch.autocast(weight.device.type, enabled=False):
        return getattr(type(network), name)(network, *cast)
