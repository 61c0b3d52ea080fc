"""Evaluators and the table that finds them."""

from .build import build_evaluators
from .cityscapes import DistributedCityscapesSemSegEvaluator
from .depth import DepthEvaluator
from .keypoints import TopDownKeypointEvaluator
from .merged import MergedEvaluators
from .sem_seg import CheckedSemSegEvaluator

__all__ = [
    "CheckedSemSegEvaluator",
    "DepthEvaluator",
    "DistributedCityscapesSemSegEvaluator",
    "MergedEvaluators",
    "TopDownKeypointEvaluator",
    "build_evaluators",
]
