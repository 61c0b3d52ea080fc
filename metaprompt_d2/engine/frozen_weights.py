"""Frozen weights in half precision next to float32 weights that are trained."""

import torch
from torch import nn

from ..diffusion import FeatureUNet, LatentEncoder, RecurrentRefinement, is_adapter
from ..diffusion.speedups import run_in_own_precision


def convert_frozen_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert the frozen VAE, and UNets of which only adapters are trained, to half precision.

    Autocast would convert their weights again in every refinement step and keep all copies for the
    backward pass. Trained weights stay in float32.

    Args:
        model: The model to change.
        dtype: Type that the training computes in.
    """
    for network in model.modules():
        if not isinstance(network, FeatureUNet | LatentEncoder):
            continue
        trained = [name for name, p in network.named_parameters() if p.requires_grad]
        if all(map(is_adapter, trained)):
            for parameter in network.parameters():
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)
            run_in_own_precision(network)
    for module in model.modules():
        if isinstance(module, RecurrentRefinement) and module.unet.dtype == dtype:
            run_in_own_precision(module.meta_prompts)  # the few adapters stay in float32
