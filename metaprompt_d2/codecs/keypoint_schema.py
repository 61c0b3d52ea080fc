"""The 17 keypoints of a person in COCO."""

_PAIRED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")

KEYPOINT_NAMES = ("nose", *(f"{side}_{part}" for part in _PAIRED for side in ("left", "right")))
NUM_KEYPOINTS = len(KEYPOINT_NAMES)

# Keypoint i of the mirror image is keypoint FLIP_INDICES[i] of the image.
FLIP_INDICES = (0, *(index + 1 if index % 2 else index - 1 for index in range(1, NUM_KEYPOINTS)))

# Indices of the head, the shoulders and the arms; the others are hips and legs.
UPPER_BODY = tuple(range(KEYPOINT_NAMES.index("left_hip")))
