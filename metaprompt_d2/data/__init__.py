"""Datasets, mappers and loaders; importing registers the datasets."""

from . import datasets
from .augmentation import PadToSize, ResizeToBox
from .build import build_test_loader, build_train_loader, load_dataset_dicts
from .datasets.sem_seg_folders import register_sem_seg_folders
from .depth_augmentation import (
    BrightnessContrast,
    CutDepth,
    DepthAugInput,
    EveryNth,
    Gamma,
    HueSaturationValue,
    KBCrop,
    RandomWindow,
)
from .mappers import DepthMapper, SemSegMapper, build_mapper

__all__ = [
    "BrightnessContrast",
    "CutDepth",
    "DepthAugInput",
    "DepthMapper",
    "EveryNth",
    "Gamma",
    "HueSaturationValue",
    "KBCrop",
    "PadToSize",
    "RandomWindow",
    "ResizeToBox",
    "SemSegMapper",
    "build_mapper",
    "build_test_loader",
    "build_train_loader",
    "datasets",
    "load_dataset_dicts",
    "register_sem_seg_folders",
]
