"""All speed-ups of a model's diffusion networks, switched on by one call."""

import torch
from torch import nn

from ..latent_encoder import LatentEncoder
from ..rearrangement import FusedRearrangement, PyramidRearrangement
from ..unet import FeatureUNet
from .compilation import compile_networks
from .half_precision import convert_weights
from .packed_conv import pack_convolutions
from .residual_block import use_in_place_blocks


def optimize_for_inference(
    model: nn.Module,
    *,
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
    compile_mode: str = "",
    pack_kernels: bool = True,
    pack_float32_kernels: bool = False,
) -> None:
    """Make the diffusion networks of a model fast for inference, in place.

    State dicts stay the same but for their dtype.

    Args:
        model: The model, on its device, with its weights loaded.
        dtype: Type to convert the weights of VAE and UNet to, or None for float32.
        channels_last: Whether kernels and maps have their channels innermost.
        compile_mode: Mode of `torch.compile`, or "" to run eagerly.
        pack_kernels: Whether convolutions in half precision keep their kernels in oneDNN's order.
            Models on a GPU and compiled ones ignore it.
        pack_float32_kernels: Whether those in float32 do, too. On some CPUs, their round-off errors
            are then larger.
    """
    optimize_for_training(model, channels_last=channels_last, compile_mode=compile_mode)
    if dtype is not None:
        convert_weights(model, dtype)
    packs = pack_kernels and (dtype is not None or pack_float32_kernels) and not compile_mode
    for network in model.modules() if packs else ():
        if isinstance(network, FeatureUNet | LatentEncoder) and next(network.parameters()).is_cpu:
            pack_convolutions(network)


def optimize_for_training(
    model: nn.Module, *, channels_last: bool = False, compile_mode: str = ""
) -> None:
    """Make the diffusion networks of a model fast as `optimize_for_inference`, but trainable."""
    for module in model.modules():
        if isinstance(module, LatentEncoder):
            use_in_place_blocks(module)
    if channels_last:
        use_channels_last(model)
    if compile_mode:
        compile_networks(model, compile_mode)


def use_channels_last(model: nn.Module) -> None:
    """Store the diffusion networks' kernels with channels innermost; maps follow their kernels."""
    parts = FeatureUNet | LatentEncoder | PyramidRearrangement | FusedRearrangement
    for module in model.modules():
        if isinstance(module, parts):
            # torch's stubs miss this overload.
            nn.Module.to(module, memory_format=torch.channels_last)  # type: ignore[call-overload]
