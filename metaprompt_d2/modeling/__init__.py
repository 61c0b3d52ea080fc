"""Detectron2's model parts on the diffusion backbone; importing fills the registries."""

from .backbone import MetaPromptBackbone
from .heads import UPerHead
from .meta_arch import SlidingWindowSegmentor

__all__ = ["MetaPromptBackbone", "SlidingWindowSegmentor", "UPerHead"]
