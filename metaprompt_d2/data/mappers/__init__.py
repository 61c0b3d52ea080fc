"""Dataset mappers, one a task, and the table that finds them."""

from .build import build_mapper
from .depth import DepthMapper
from .sem_seg import SemSegMapper

__all__ = ["DepthMapper", "SemSegMapper", "build_mapper"]
