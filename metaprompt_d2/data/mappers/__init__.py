"""Dataset mappers, one a task."""

from .depth import DepthMapper
from .sem_seg import SemSegMapper

__all__ = ["DepthMapper", "SemSegMapper"]
