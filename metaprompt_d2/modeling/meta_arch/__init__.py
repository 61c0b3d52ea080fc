"""Meta-architectures: Detectron2's batched inputs in, losses or predictions out."""

from .sem_seg import SlidingWindowSegmentor

__all__ = ["SlidingWindowSegmentor"]
