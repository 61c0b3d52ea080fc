"""Wrappers that have a model's call signature and predict better, and files in and out."""

from .prediction_files import PredictionFiles, VideoFile, write_png
from .sources import Source, Video, find_sources
from .test_time_augmentation import DenseModelWithTTA, with_test_time_augmentation

__all__ = [
    "DenseModelWithTTA",
    "PredictionFiles",
    "Source",
    "Video",
    "VideoFile",
    "find_sources",
    "with_test_time_augmentation",
    "write_png",
]
