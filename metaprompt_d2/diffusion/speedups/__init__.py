"""What makes the diffusion networks faster without changing the method."""

from .compilation import compile_networks
from .half_precision import convert_weights, run_in_own_precision
from .optimize import optimize_for_inference, optimize_for_training, use_channels_last
from .packed_conv import PackedConv2d, pack_convolutions
from .residual_block import InPlaceResidualBlock, use_in_place_blocks

__all__ = [
    "InPlaceResidualBlock",
    "PackedConv2d",
    "compile_networks",
    "convert_weights",
    "optimize_for_inference",
    "optimize_for_training",
    "pack_convolutions",
    "run_in_own_precision",
    "use_channels_last",
    "use_in_place_blocks",
]
