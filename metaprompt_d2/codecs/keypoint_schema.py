"""COCO's 17 joints of a person."""

__all__ = ["FLIP_INDICES", "JOINT_NAMES", "NUM_JOINTS", "UPPER_BODY"]

JOINT_NAMES = (
    "nose",
    *("left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
NUM_JOINTS = len(JOINT_NAMES)

# The joint that each one becomes in the mirror.
FLIP_INDICES = tuple(
    JOINT_NAMES.index({"left": "right", "right": "left"}.get(side, side) + rest)
    for side, rest in (
        (name.split("_")[0], name[len(name.split("_")[0]) :]) for name in JOINT_NAMES
    )
)

# Head, shoulders, arms; the others are hips and legs.
UPPER_BODY = tuple(range(JOINT_NAMES.index("left_hip")))
