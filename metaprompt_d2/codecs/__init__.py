"""Convert people to crops and keypoints to heatmaps, and back."""

from .crops import box_to_crop, crop_matrix, points_to_crop, transform_points
from .heatmaps import UDPHeatmapCodec, average_with_mirrored
from .keypoint_schema import DEFAULT_SIGMA, Connection, KeypointSchema

__all__ = [
    "DEFAULT_SIGMA",
    "Connection",
    "KeypointSchema",
    "UDPHeatmapCodec",
    "average_with_mirrored",
    "box_to_crop",
    "crop_matrix",
    "points_to_crop",
    "transform_points",
]
