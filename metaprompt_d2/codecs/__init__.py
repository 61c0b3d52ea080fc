"""People to crops, joints to heatmaps, and back: plain arrays and tensors."""

from .crops import box_to_crop, crop_matrix, invert_affine, points_to_crop, transform_points
from .heatmaps import UDPHeatmapCodec, average_with_mirrored
from .keypoint_schema import FLIP_INDICES, JOINT_NAMES, NUM_JOINTS, UPPER_BODY

__all__ = [
    "FLIP_INDICES",
    "JOINT_NAMES",
    "NUM_JOINTS",
    "UPPER_BODY",
    "UDPHeatmapCodec",
    "average_with_mirrored",
    "box_to_crop",
    "crop_matrix",
    "invert_affine",
    "points_to_crop",
    "transform_points",
]
