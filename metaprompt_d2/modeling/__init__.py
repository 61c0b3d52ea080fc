"""Detectron2's model parts on the diffusion backbone; importing fills the registries."""

from .backbone import MetaPromptBackbone
from .heads import DEPTH_HEADS_REGISTRY, DeconvDepthHead, UPerHead, build_depth_head
from .meta_arch import DepthEstimator, SlidingWindowSegmentor

__all__ = [
    "DEPTH_HEADS_REGISTRY",
    "DeconvDepthHead",
    "DepthEstimator",
    "MetaPromptBackbone",
    "SlidingWindowSegmentor",
    "UPerHead",
    "build_depth_head",
]
