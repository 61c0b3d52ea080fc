"""Evaluators, their registry, and writers of pictures and of files for test servers."""

from .build import EVALUATORS_REGISTRY, build_evaluators
from .cityscapes import DistributedCityscapesSemSegEvaluator
from .depth import DepthEvaluator
from .instances import ThingsEvaluator
from .keypoints import TopDownKeypointEvaluator
from .merged import MergedEvaluators
from .not_finite import describe_not_finite
from .outputs import scored_outputs
from .pictures import PICTURES_REGISTRY, PictureWriter, draw_prediction, merge_people
from .predictions import PREDICTION_FORMATS, SemSegPredictionWriter
from .sem_seg import CheckedSemSegEvaluator

__all__ = [
    "EVALUATORS_REGISTRY",
    "PICTURES_REGISTRY",
    "PREDICTION_FORMATS",
    "CheckedSemSegEvaluator",
    "DepthEvaluator",
    "DistributedCityscapesSemSegEvaluator",
    "MergedEvaluators",
    "PictureWriter",
    "SemSegPredictionWriter",
    "ThingsEvaluator",
    "TopDownKeypointEvaluator",
    "build_evaluators",
    "describe_not_finite",
    "draw_prediction",
    "merge_people",
    "scored_outputs",
]
