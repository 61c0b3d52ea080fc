"""Prediction heads, each in its registry."""

from .uper_head import UPerHead

__all__ = ["UPerHead"]
