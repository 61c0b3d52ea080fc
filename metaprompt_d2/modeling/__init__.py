"""Backbones, heads and meta-architectures for Detectron2's registries."""

from .backbone import MetaPromptBackbone
from .flops import (
    attention_flops,
    attention_gradient_flops,
    attention_products,
    count_attention,
)
from .fpn import FinerMap, MetaPromptFPN
from .heads.build import (
    DEPTH_HEADS_REGISTRY,
    HEATMAP_HEADS_REGISTRY,
    build_depth_head,
    build_heatmap_head,
)
from .heads.depth_head import DeconvDepthHead
from .heads.heatmap_head import DeconvHeatmapHead
from .heads.mask2former_head import Mask2FormerHead
from .heads.uper_head import UPerHead
from .lazy_backbone import meta_prompt_backbone
from .meta_arch.base import DenseModel, TaskModel
from .meta_arch.depth import DepthEstimator
from .meta_arch.fcos import ConfigurableFCOS
from .meta_arch.pose import TopDownPoseEstimator
from .meta_arch.sem_seg import SlidingWindowSegmentor
from .meta_arch.universal import UniversalSegmentor
from .person_detector import PersonDetector
from .random_weights import WithoutRandomWeights
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
    "Mask2FormerHead",
    "MetaPromptBackbone",
    "MetaPromptFPN",
    "PersonDetector",
    "SlidingWindowSegmentor",
    "TaskModel",
    "TopDownPoseEstimator",
    "UPerHead",
    "UniversalSegmentor",
    "WithoutRandomWeights",
    "attention_flops",
    "attention_gradient_flops",
    "attention_products",
    "build_depth_head",
    "build_heatmap_head",
    "count_attention",
    "meta_prompt_backbone",
    "with_test_time_augmentation",
]
