"""Metrics of predictions against ground truth: plain functions on arrays."""

from .depth import (
    DEPTH_CROPS,
    DEPTH_METRICS,
    clean_depth,
    compute_depth_metrics,
    kb_crop_box,
    valid_depth_mask,
)
from .oks import OKS_SIGMAS, oks_nms, person_score

__all__ = [
    "DEPTH_CROPS",
    "DEPTH_METRICS",
    "OKS_SIGMAS",
    "clean_depth",
    "compute_depth_metrics",
    "kb_crop_box",
    "oks_nms",
    "person_score",
    "valid_depth_mask",
]
