"""Meta-architectures: Detectron2's batched inputs in, losses or predictions out."""

from .base import DenseModel, TaskModel
from .depth import DepthEstimator
from .fcos import ConfigurableFCOS
from .pose import TopDownPoseEstimator
from .sem_seg import SlidingWindowSegmentor

__all__ = [
    "ConfigurableFCOS",
    "DenseModel",
    "DepthEstimator",
    "SlidingWindowSegmentor",
    "TaskModel",
    "TopDownPoseEstimator",
]
