"""COCO-WholeBody: body, feet, face and hands of COCO's people, 133 keypoints.

The dataset is that of ["Whole-Body Human Pose Estimation in the
Wild"](https://arxiv.org/abs/2007.11858). Names and pairs are mmpose's
(`configs/_base_/datasets/coco_wholebody.py`); standard deviations are those of the official
evaluation (github.com/jin-s13/COCO-WholeBody, `evaluation/myeval_wholebody.py`).
"""

from typing import Any

from .coco_topdown import COCO_PERSON, register_coco_people
from .keypoint_names import connect, pair_sides

_SIDES = ("left", "right")
_TOES = ("big_toe", "small_toe", "heel")
_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")

_BODY = list(COCO_PERSON["keypoint_names"])
_FEET = [f"{side}_{toe}" for side in _SIDES for toe in _TOES]
_FACE = [f"face-{number}" for number in range(68)]
_HANDS = {
    side: [
        f"{side}_hand_root",
        *(f"{side}_{finger}{bone}" for finger in _FINGERS for bone in range(1, 5)),
    ]
    for side in _SIDES
}
_NAMES = [*_BODY, *_FEET, *_FACE, *_HANDS["left"], *_HANDS["right"]]

# The face's left and right keypoints in runs: first, last, and the sum of the numbers of a pair.
_CHIN_PAIRS, _BROW_PAIRS, _NOSE_PAIRS = (0, 7, 16), (17, 21, 43), (31, 32, 66)
_EYE_PAIRS = ((36, 39, 81), (40, 41, 87))
_MOUTH_PAIRS = ((48, 50, 102), (55, 56, 114), (60, 61, 124), (65, 65, 132))
_FACE_PAIRS = (_CHIN_PAIRS, _BROW_PAIRS, _NOSE_PAIRS, *_EYE_PAIRS, *_MOUTH_PAIRS)

_FOOT_SIGMAS = [0.068, 0.066, 0.066, 0.092, 0.094, 0.094]
_FACE_SIGMAS = [
    *(0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037),
    *(0.038, 0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013),
    *(0.015, 0.009, 0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010, 0.017, 0.011, 0.009),
    *(0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034, 0.008, 0.008, 0.009, 0.008),
    *(0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008, 0.008),
    *(0.008, 0.010, 0.008),
]
_HAND_SIGMAS = [
    *(0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026),
    *(0.017, 0.021, 0.021, 0.032, 0.020, 0.019, 0.022, 0.031),
]

# Metadata of COCO-WholeBody's person, for `register_keypoints`.
COCO_WHOLEBODY: dict[str, Any] = {
    "thing_classes": ["person"],
    "keypoint_names": _NAMES,
    "keypoint_flip_map": [
        *pair_sides(_NAMES),
        *(
            (f"face-{number}", f"face-{total - number}")
            for first, last, total in _FACE_PAIRS
            for number in range(first, last + 1)
        ),
    ],
    "keypoint_oks_sigmas": [
        *COCO_PERSON["keypoint_oks_sigmas"],
        *(*_FOOT_SIGMAS, *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS),
    ],
    "keypoint_connection_rules": [
        *COCO_PERSON["keypoint_connection_rules"],
        *connect(*((f"{name.partition('_')[0]}_ankle", name) for name in _FEET)),
        *connect(
            *(
                (f"{side}_hand_root", *(f"{side}_{finger}{bone}" for bone in range(1, 5)))
                for side in _SIDES
                for finger in _FINGERS
            )
        ),
    ],
    "keypoint_upper_body": [
        *COCO_PERSON["keypoint_upper_body"],
        *(*_FACE, *_HANDS["left"], *_HANDS["right"]),
    ],
    "keypoint_parts": [
        *(("body", 17), ("foot", 6), ("face", 68)),
        *(("lefthand", 21), ("righthand", 21)),
    ],
}


def register_coco_wholebody(root: str) -> None:
    """Register `coco_wholebody_topdown_{train,val_gt,val_det}`."""
    annotations = "coco/annotations/coco_wholebody_{split}_v1.0.json"
    register_coco_people(root, "coco_wholebody_topdown", annotations, COCO_WHOLEBODY)
