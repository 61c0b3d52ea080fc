"""Evaluators and the table that finds them."""

from .build import build_evaluators
from .cityscapes import DistributedCityscapesSemSegEvaluator
from .merged import MergedEvaluators
from .sem_seg import CheckedSemSegEvaluator

__all__ = [
    "CheckedSemSegEvaluator",
    "DistributedCityscapesSemSegEvaluator",
    "MergedEvaluators",
    "build_evaluators",
]
