"""Dataset mappers, one a task."""

from .depth import DepthMapper
from .pose import PoseMapper
from .sem_seg import SemSegMapper

__all__ = ["DepthMapper", "PoseMapper", "SemSegMapper"]
