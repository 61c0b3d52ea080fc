"""COCO's 17 keypoints of a person."""

__all__ = ["FLIP_INDICES", "KEYPOINT_NAMES", "NUM_KEYPOINTS", "UPPER_BODY"]

KEYPOINT_NAMES = (
    "nose",
    *("left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
NUM_KEYPOINTS = len(KEYPOINT_NAMES)

# The keypoint that each one becomes in the mirror.
FLIP_INDICES = tuple(
    KEYPOINT_NAMES.index({"left": "right", "right": "left"}.get(side, side) + rest)
    for side, rest in (
        (name.split("_")[0], name[len(name.split("_")[0]) :]) for name in KEYPOINT_NAMES
    )
)

# Head, shoulders, arms; the others are hips and legs.
UPPER_BODY = tuple(range(KEYPOINT_NAMES.index("left_hip")))
