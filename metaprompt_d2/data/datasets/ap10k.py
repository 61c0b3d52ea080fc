"""AP-10K: animals of 54 species, 17 keypoints.

The dataset is that of [AP-10K](https://arxiv.org/abs/2108.12617). Its annotations have the names of
species and keypoints. The paper leaves the standard deviations open; they are those that the
authors' code uses (github.com/AlexTheBad/AP-10K, `configs/_base_/datasets/ap10k.py`).
"""

import os
from typing import Any

from .keypoint_names import connect, pair_sides
from .keypoints import register_keypoints

_SIDES = ("left", "right")
_FRONT, _BACK = ("shoulder", "elbow", "front_paw"), ("hip", "knee", "back_paw")
_LEGS = {
    (side, root): [f"{side}_{part}" for part in parts]
    for root, parts in (("neck", _FRONT), ("root_of_tail", _BACK))
    for side in _SIDES
}
_NAMES = ["left_eye", "right_eye", "nose", "neck", "root_of_tail", *sum(_LEGS.values(), [])]

# Metadata of AP-10K's animals, for `register_keypoints`.
AP10K: dict[str, Any] = {
    "thing_classes": (
        "antelope,argali sheep,bison,buffalo,cow,sheep,arctic fox,dog,fox,wolf,beaver,alouatta,"
        "monkey,noisy night monkey,spider monkey,uakari,deer,moose,hamster,elephant,horse,zebra,"
        "bobcat,cat,cheetah,jaguar,king cheetah,leopard,lion,panther,snow leopard,tiger,giraffe,"
        "hippo,chimpanzee,gorilla,orangutan,rabbit,skunk,mouse,rat,otter,weasel,raccoon,rhino,"
        "marmot,squirrel,pig,mole,black bear,brown bear,panda,polar bear,bat"
    ).split(","),
    "keypoint_names": _NAMES,
    "keypoint_flip_map": pair_sides(_NAMES),
    "keypoint_oks_sigmas": [
        *(0.025, 0.025, 0.026, 0.035, 0.035),
        *(2 * (0.079, 0.072, 0.062) + 2 * (0.107, 0.087, 0.089)),
    ],
    "keypoint_connection_rules": connect(
        ("left_eye", "right_eye", "nose", "left_eye"),
        ("nose", "neck", "root_of_tail"),
        *((root, *leg) for (_, root), leg in _LEGS.items()),
    ),
    "keypoint_upper_body": [*_NAMES[:4], *_LEGS["left", "neck"], *_LEGS["right", "neck"]],
}


def register_ap10k(root: str) -> None:
    """Register `ap10k_topdown_{train,val,test}_split{1,2,3}`, with boxes from the annotations."""
    for split in ("train", "val", "test"):
        for number in (1, 2, 3):
            register_keypoints(
                f"ap10k_topdown_{split}_split{number}",
                os.path.join(root, f"ap10k/annotations/ap10k-{split}-split{number}.json"),
                os.path.join(root, "ap10k/data"),
                **AP10K,
            )
