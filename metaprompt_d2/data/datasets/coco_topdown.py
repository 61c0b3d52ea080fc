"""People of COCO, with annotated or detected boxes."""

import os

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
    detections = [os.path.join(root, path) for path in DETECTIONS]
    found = next((path for path in detections if os.path.exists(path)), detections[0])
    for split, boxes in (("train", "train"), ("val", "val_gt"), ("val", "val_det")):
        register_keypoints(
            f"coco_2017_person_topdown_{boxes}",
            os.path.join(root, f"coco/annotations/person_keypoints_{split}2017.json"),
            os.path.join(root, f"coco/{split}2017"),
            detections_file=found if boxes == "val_det" else None,
            **COCO_PERSON,
        )
