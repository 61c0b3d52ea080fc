"""Prediction heads, each in its registry."""

from .depth_head import DEPTH_HEADS_REGISTRY, DeconvDepthHead, build_depth_head
from .uper_head import UPerHead

__all__ = ["DEPTH_HEADS_REGISTRY", "DeconvDepthHead", "UPerHead", "build_depth_head"]
