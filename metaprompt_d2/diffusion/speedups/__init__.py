"""What makes the diffusion parts faster without changing the method."""

from .packed_conv import PackedConv2d, pack_convolutions
from .residual_block import InPlaceResidualBlock

__all__ = ["InPlaceResidualBlock", "PackedConv2d", "pack_convolutions"]
