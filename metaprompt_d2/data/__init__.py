"""Datasets, mappers and loaders; importing registers the datasets."""

from . import datasets
from .augmentation import CropOfSeveralClasses, PadToSize, ResizeToBox
from .build import build_test_loader, build_train_loader, load_dataset_dicts
from .checks import check_datasets
from .color_augmentation import ColorAugSSD
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
from .mappers import (
    DATASET_MAPPERS_REGISTRY,
    MAPPERS_OF_TASKS,
    DepthMapper,
    ImageMapper,
    PoseMapper,
    SemSegMapper,
    build_heatmap_codec,
    build_mapper,
)
from .pose_augmentation import HalfBody, JitterCenter, MirrorPerson, PersonView, ScaleAndRotate

__all__ = [
    "DATASET_MAPPERS_REGISTRY",
    "MAPPERS_OF_TASKS",
    "BrightnessContrast",
    "ColorAugSSD",
    "CropOfSeveralClasses",
    "CutDepth",
    "DepthAugInput",
    "DepthMapper",
    "EveryNth",
    "Gamma",
    "HalfBody",
    "HueSaturationValue",
    "ImageMapper",
    "JitterCenter",
    "KBCrop",
    "MirrorPerson",
    "PadToSize",
    "PersonView",
    "PoseMapper",
    "RandomWindow",
    "ResizeToBox",
    "ScaleAndRotate",
    "SemSegMapper",
    "build_heatmap_codec",
    "build_mapper",
    "build_test_loader",
    "build_train_loader",
    "check_datasets",
    "datasets",
    "load_dataset_dicts",
    "register_sem_seg_folders",
]
