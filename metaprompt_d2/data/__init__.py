"""Datasets, mappers and loaders; importing registers the datasets."""

from . import datasets
from .augmentation import CropOfSeveralClasses, PadToSize, ResizeToBox
from .build import build_test_loader, build_train_loader, load_dataset_dicts
from .checks import check_datasets
from .color_augmentation import ColorAugSSD
from .datasets.keypoints import register_keypoints
from .datasets.panoptic import register_panoptic
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
from .keypoint_schemas import (
    build_keypoint_schema,
    check_flip_pairs,
    find_keypoint_metadata,
    find_keypoint_schema,
)
from .mappers import (
    DATASET_MAPPERS_REGISTRY,
    MAPPERS_OF_TASKS,
    DepthMapper,
    ImageMapper,
    PoseMapper,
    SemSegMapper,
    UniversalMapper,
    build_heatmap_codec,
    build_mapper,
)
from .pose_augmentation import HalfBody, JitterCenter, MirrorPerson, PersonView, ScaleAndRotate
from .thing_ids import find_thing_ids

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
    "UniversalMapper",
    "build_heatmap_codec",
    "build_keypoint_schema",
    "build_mapper",
    "build_test_loader",
    "build_train_loader",
    "check_datasets",
    "check_flip_pairs",
    "datasets",
    "find_keypoint_metadata",
    "find_keypoint_schema",
    "find_thing_ids",
    "load_dataset_dicts",
    "register_keypoints",
    "register_panoptic",
    "register_sem_seg_folders",
]
