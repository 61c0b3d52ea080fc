"""Prediction heads and their registries."""

from .depth_head import DEPTH_HEADS_REGISTRY, DeconvDepthHead, build_depth_head
from .heatmap_head import HEATMAP_HEADS_REGISTRY, DeconvHeatmapHead, build_heatmap_head
from .uper_head import UPerHead

__all__ = [
    "DEPTH_HEADS_REGISTRY",
    "HEATMAP_HEADS_REGISTRY",
    "DeconvDepthHead",
    "DeconvHeatmapHead",
    "UPerHead",
    "build_depth_head",
    "build_heatmap_head",
]
