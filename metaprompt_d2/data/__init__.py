"""Datasets, mappers and loaders; importing registers the datasets."""

from . import datasets
from .augmentation import PadToSize, ResizeToBox
from .build import build_test_loader, build_train_loader, load_dataset_dicts
from .mappers import SemSegMapper

__all__ = [
    "PadToSize",
    "ResizeToBox",
    "SemSegMapper",
    "build_test_loader",
    "build_train_loader",
    "datasets",
    "load_dataset_dicts",
]
