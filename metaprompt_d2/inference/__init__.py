"""Predict images, folders and videos, look inside the model, and write predictions."""

from .prediction_files import PredictionFiles, VideoFile
from .predictor import Prediction, Predictor
from .sources import Source, Video, find_sources

__all__ = [
    "Prediction",
    "PredictionFiles",
    "Predictor",
    "Source",
    "Video",
    "VideoFile",
    "find_sources",
]
