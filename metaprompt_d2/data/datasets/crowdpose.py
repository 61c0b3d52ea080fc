"""CrowdPose: people in crowded scenes, 14 keypoints.

The dataset is that of [CrowdPose](https://arxiv.org/abs/1812.00324). Standard deviations, the area
of a person and the levels of the crowd index are those of the official evaluation
(github.com/Jeff-sjtu/CrowdPose, `crowdposetools/cocoeval.py`). The files are those that mmpose
offers, in its layout.
"""

import math
import os
from typing import Any

from .keypoint_names import connect, pair_sides
from .keypoints import register_keypoints

_SIDES = ("left", "right")
_ARM, _LEG = ("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")
_NAMES = [f"{side}_{part}" for part in (*_ARM, *_LEG) for side in _SIDES] + ["head", "neck"]

# Metadata of CrowdPose's person, for `register_keypoints`.
CROWDPOSE: dict[str, Any] = {
    "thing_classes": ["person"],
    "keypoint_names": _NAMES,
    "keypoint_flip_map": pair_sides(_NAMES),
    "keypoint_oks_sigmas": [
        *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),
        *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
    ],
    "keypoint_connection_rules": connect(
        ("head", "neck"),
        *([f"{side}_{part}" for side in _SIDES] for part in ("shoulder", "hip")),
        *(["neck", *(f"{side}_{part}" for part in _ARM)] for side in _SIDES),
        *([f"{side}_{part}" for part in ("shoulder", *_LEG)] for side in _SIDES),
    ),
    "keypoint_upper_body": [*_NAMES[:6], "head", "neck"],
    "keypoint_box_area": 0.53,
    "keypoint_crowd_levels": [("easy", 0.2), ("medium", 0.8), ("hard", math.inf)],
}


def register_crowdpose(root: str) -> None:
    """Register `crowdpose_topdown_{train,val,trainval,test_gt,test_det}`."""
    folder = os.path.join(root, "crowdpose")
    detections = os.path.join(folder, "annotations/det_for_crowd_test_0.1_0.5.json")
    for name in ("train", "val", "trainval", "test_gt", "test_det"):
        split = name.partition("_")[0]
        register_keypoints(
            f"crowdpose_topdown_{name}",
            os.path.join(folder, f"annotations/mmpose_crowdpose_{split}.json"),
            os.path.join(folder, "images"),
            detections_file=detections if name == "test_det" else None,
            **CROWDPOSE,
        )
