"""The diffusion networks through `torch.compile`, with or without CUDA graphs."""

import torch
from torch import Tensor, nn

from ..latent_encoder import LatentEncoder
from ..rearrangement import FusedRearrangement, PyramidRearrangement
from ..refinement import RecurrentRefinement
from ..unet import FeatureUNet

_CUDA_GRAPH_MODES = ("reduce-overhead", "max-autotune")


def compile_networks(model: nn.Module, mode: str) -> None:
    """Compile VAE encoder, UNet and rearrangement at their first call, each into one program.

    Args:
        model: The model to change. Modules and parameters keep their names.
        mode: A mode of `torch.compile`.
    """
    for module in model.modules():
        if isinstance(module, LatentEncoder):
            module.encoder.compile(mode=mode)
            module.register_forward_hook(_unify_layout)
        if isinstance(module, FeatureUNet | PyramidRearrangement | FusedRearrangement):
            module.compile(mode=mode)
        if isinstance(module, FeatureUNet) and hasattr(module, "conv_out"):
            module.conv_out.register_forward_hook(_unify_layout)
        if isinstance(module, LatentEncoder | RecurrentRefinement) and mode in _CUDA_GRAPH_MODES:
            module.register_forward_pre_hook(_begin_iteration)


def _unify_layout(module: nn.Module, inputs: tuple, latent: Tensor) -> Tensor:
    """Give the latents of the encoder and of all steps the same strides.

    The UNet would be compiled once for each of them otherwise. `Tensor.contiguous` isn't enough:
    it leaves the strides of a batch of one as they are.
    """
    return latent.clone(memory_format=torch.contiguous_format)


def _begin_iteration(module: nn.Module, inputs: tuple) -> None:
    """Allow CUDA graphs to overwrite the outputs of earlier calls.

    By default, torch begins an iteration with every compiled part. The first recordings then
    overwrite the outputs of the part before, which are their inputs.
    """
    torch.compiler.cudagraph_mark_step_begin()
