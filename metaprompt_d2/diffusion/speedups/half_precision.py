"""Networks with half precision weights inside a float32 model."""

from functools import partial

import torch
from torch import Tensor

from ..latent_encoder import LatentEncoder
from ..unet import FeatureUNet

_METHODS = ("forward", "predict_latent")


def convert_weights(network: FeatureUNet | LatentEncoder, dtype: torch.dtype) -> None:
    """Convert a network to half precision, in place, and let it run in that precision."""
    torch.nn.Module.to(network, dtype)  # diffusers' own `to` warns about conversions
    run_in_own_precision(network)


def run_in_own_precision(network: FeatureUNet | LatentEncoder) -> None:
    """Let a network cast its inputs to the type of its weights and ignore autocast.

    Autocast would still run some layers, such as norms on GPUs, in float32.

    Args:
        network: The network to change. Its outputs have the type of its weights.
    """
    for name in _METHODS:
        if hasattr(network, name):
            setattr(network, name, partial(_run, network, name))


def _run(network: FeatureUNet | LatentEncoder, name: str, *inputs: Tensor) -> list[Tensor] | Tensor:
    weight = next(network.parameters())  # of the first convolution, not of an adapter
    method = getattr(type(network), name)
    with torch.autocast(weight.device.type, enabled=False):
        return method(network, *(x.to(weight.dtype) for x in inputs))
