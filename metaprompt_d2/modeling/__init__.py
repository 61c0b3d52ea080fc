"""Backbones, heads and meta-architectures for Detectron2's registries."""

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
    DenseModel,
    DepthEstimator,
    SlidingWindowSegmentor,
    TaskModel,
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
    "DenseModel",
    "DenseModelWithTTA",
    "DepthEstimator",
    "FinerMap",
    "MetaPromptBackbone",
    "MetaPromptFPN",
    "PersonDetector",
    "SlidingWindowSegmentor",
    "TaskModel",
    "TopDownPoseEstimator",
    "UPerHead",
    "build_depth_head",
    "build_heatmap_head",
    "with_test_time_augmentation",
]
