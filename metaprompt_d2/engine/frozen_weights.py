"""Weights that don't train, in half precision beside those that do."""

import torch
from torch import nn

from ..diffusion import FeatureUNet, LatentEncoder, is_adapter

__all__ = ["convert_frozen_weights"]


def convert_frozen_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold the frozen VAE, and UNets that are frozen but for adapters, in half precision.

    Autocast would convert them anew in every refinement step and keep every copy for the backward
    pass. What trains stays in float32.

    Args:
        model: changed in place.
        dtype: that the training computes in.
    """
    for network in model.modules():
        if not isinstance(network, FeatureUNet | LatentEncoder):
            continue
        trained = [name for name, p in network.named_parameters() if p.requires_grad]
        if all(map(is_adapter, trained)):
            for parameter in network.parameters():
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)
