"""Dataset mappers, one a task."""

from .build import build_mapper
from .depth import DepthMapper
from .pose import PoseMapper
from .sem_seg import SemSegMapper

__all__ = ["DepthMapper", "PoseMapper", "SemSegMapper", "build_mapper"]
