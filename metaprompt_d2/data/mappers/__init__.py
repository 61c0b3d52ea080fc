"""Dataset mappers, one a task."""

from .sem_seg import SemSegMapper

__all__ = ["SemSegMapper"]
