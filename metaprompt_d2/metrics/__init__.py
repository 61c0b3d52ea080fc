"""Figures of predictions against ground truth: plain functions on arrays."""

from .depth import (
    DEPTH_CROPS,
    DEPTH_FIGURES,
    clean_depth,
    depth_crop_mask,
    depth_figures,
    kb_crop_box,
    valid_depth_mask,
)
from .oks import OKS_SIGMAS, keypoint_similarity, oks_nms, person_score

__all__ = [
    "DEPTH_CROPS",
    "DEPTH_FIGURES",
    "OKS_SIGMAS",
    "clean_depth",
    "depth_crop_mask",
    "depth_figures",
    "kb_crop_box",
    "keypoint_similarity",
    "oks_nms",
    "person_score",
    "valid_depth_mask",
]
