"""People of COCO, with annotated or detected boxes."""

import os
from typing import Any

from detectron2.data.datasets.builtin_meta import _get_builtin_metadata
from pycocotools.cocoeval import Params

from .keypoints import register_keypoints

# The usual detections (56.4 AP on val2017): in mmpose's folder, or next to the annotations.
DETECTIONS = (
    "coco/person_detection_results/COCO_val2017_detections_AP_H_56_person.json",
    "coco/annotations/COCO_val2017_detections_AP_H_56_person.json",
)
# Metadata of COCO's person, for `register_keypoints`.
COCO_PERSON = _get_builtin_metadata("coco_person")
COCO_PERSON["keypoint_oks_sigmas"] = Params("keypoints").kpt_oks_sigmas.tolist()
COCO_PERSON["keypoint_upper_body"] = COCO_PERSON["keypoint_names"][:11]  # all but hips and legs


def register_coco_topdown(root: str) -> None:
    """Register `coco_2017_person_topdown_{train,val_gt,val_det}`."""
    annotations = "coco/annotations/person_keypoints_{split}2017.json"
    register_coco_people(root, "coco_2017_person_topdown", annotations, COCO_PERSON)


def register_coco_people(root: str, name: str, annotations: str, metadata: dict[str, Any]) -> None:
    """Register annotations of COCO's people as `<name>_{train,val_gt,val_det}`.

    Args:
        root: As in `register_coco_topdown`.
        name: Beginning of the datasets' names.
        annotations: Path of the annotations in `root`, with "{split}" for train and val.
        metadata: As in `register_keypoints`.
    """
    detections = [os.path.join(root, path) for path in DETECTIONS]
    found = next((path for path in detections if os.path.exists(path)), detections[0])
    for split, boxes in (("train", "train"), ("val", "val_gt"), ("val", "val_det")):
        register_keypoints(
            f"{name}_{boxes}",
            os.path.join(root, annotations.format(split=split)),
            os.path.join(root, f"coco/{split}2017"),
            detections_file=found if boxes == "val_det" else None,
            **metadata,
        )
