"""Dataset mappers, one a task."""

from .build import DATASET_MAPPERS_REGISTRY, build_mapper
from .depth import DepthMapper
from .pose import PoseMapper
from .sem_seg import SemSegMapper

__all__ = [
    "DATASET_MAPPERS_REGISTRY",
    "DepthMapper",
    "PoseMapper",
    "SemSegMapper",
    "build_mapper",
]
