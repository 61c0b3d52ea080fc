"""Dataset mappers, one for each task."""

from .base import ImageMapper
from .build import DATASET_MAPPERS_REGISTRY, MAPPERS_OF_TASKS, build_mapper
from .depth import DepthMapper
from .pose import PoseMapper, build_heatmap_codec
from .sem_seg import SemSegMapper
from .universal import UniversalMapper

__all__ = [
    "DATASET_MAPPERS_REGISTRY",
    "MAPPERS_OF_TASKS",
    "DepthMapper",
    "ImageMapper",
    "PoseMapper",
    "SemSegMapper",
    "UniversalMapper",
    "build_heatmap_codec",
    "build_mapper",
]
