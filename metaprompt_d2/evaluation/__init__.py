"""Evaluators and the table that finds them."""

from .build import build_evaluators
from .cityscapes import DistributedCityscapesSemSegEvaluator
from .merged import MergedEvaluators

__all__ = ["DistributedCityscapesSemSegEvaluator", "MergedEvaluators", "build_evaluators"]
