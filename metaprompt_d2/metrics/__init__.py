"""Metrics of predictions against ground truth: plain functions on arrays."""

from .depth import (
    DEPTH_CROPS,
    DEPTH_METRICS,
    clean_depth,
    compute_depth_metrics,
    depth_crop_mask,
    kb_crop_box,
    valid_depth_mask,
)
from .oks import oks_nms, person_score
from .sem_seg import NO_CLASS, classify_pixels

__all__ = [
    "DEPTH_CROPS",
    "DEPTH_METRICS",
    "NO_CLASS",
    "classify_pixels",
    "clean_depth",
    "compute_depth_metrics",
    "depth_crop_mask",
    "kb_crop_box",
    "oks_nms",
    "person_score",
    "valid_depth_mask",
]
