"""Detectron2's model parts on the diffusion backbone; importing fills the registries."""

from .backbone import MetaPromptBackbone
from .fpn import FinerMap, MetaPromptFPN
from .heads import (
    DEPTH_HEADS_REGISTRY,
    HEATMAP_HEADS_REGISTRY,
    DeconvDepthHead,
    DeconvHeatmapHead,
    UPerHead,
    build_depth_head,
    build_heatmap_head,
)
from .meta_arch import (
    ConfigurableFCOS,
    DepthEstimator,
    SlidingWindowSegmentor,
    TopDownPoseEstimator,
)
from .person_detector import PersonDetector
from .test_time_augmentation import DenseModelWithTTA, with_test_time_augmentation

__all__ = [
    "DEPTH_HEADS_REGISTRY",
    "HEATMAP_HEADS_REGISTRY",
    "ConfigurableFCOS",
    "DeconvDepthHead",
    "DeconvHeatmapHead",
    "DenseModelWithTTA",
    "DepthEstimator",
    "FinerMap",
    "MetaPromptBackbone",
    "MetaPromptFPN",
    "PersonDetector",
    "SlidingWindowSegmentor",
    "TopDownPoseEstimator",
    "UPerHead",
    "build_depth_head",
    "build_heatmap_head",
    "with_test_time_augmentation",
]
