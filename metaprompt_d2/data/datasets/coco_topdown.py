"""COCO's people, one sample a person, with annotated or detected boxes."""

import logging
import os

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata
from detectron2.structures import BoxMode

from ...codecs import NUM_KEYPOINTS
from ...utils.errors import InputError
from ..coco_json import read_detections, read_people

__all__ = [
    "DETECTIONS",
    "load_annotated_people",
    "load_detected_people",
    "register_coco_topdown",
    "register_people",
]

logger = logging.getLogger(__name__)

# The standard detections (56.4 AP on val2017), where mmpose keeps them, or beside the annotations.
DETECTIONS = (
    "coco/person_detection_results/COCO_val2017_detections_AP_H_56_person.json",
    "coco/annotations/COCO_val2017_detections_AP_H_56_person.json",
)

_PERSON = 1  # COCO's category


def register_coco_topdown(root: str) -> None:
    """Register `coco_2017_person_topdown_{train,val_gt,val_det}`.

    Args:
        root: the folder that holds `coco/`, usually DETECTRON2_DATASETS.
    """
    detections = [os.path.join(root, path) for path in DETECTIONS]
    found = next((path for path in detections if os.path.exists(path)), detections[0])
    for split, boxes in (("train", "train"), ("val", "val_gt"), ("val", "val_det")):
        register_people(
            f"coco_2017_person_topdown_{boxes}",
            os.path.join(root, f"coco/annotations/person_keypoints_{split}2017.json"),
            os.path.join(root, f"coco/{split}2017"),
            detections_file=found if boxes == "val_det" else None,
        )


def register_people(
    name: str, json_file: str, image_root: str, *, detections_file: str | None = None
) -> None:
    """Register people of annotations in COCO's layout.

    Args:
        name: of the dataset.
        json_file: annotations, also of what is evaluated.
        image_root: folder of the images.
        detections_file: take boxes from it and not from the annotations.
    """

    def load() -> list[dict]:
        if detections_file is None:
            return load_annotated_people(json_file, image_root)
        return load_detected_people(json_file, image_root, detections_file)

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        detections_file=detections_file,
        evaluator_type="coco_person_topdown",
        **_get_builtin_metadata("coco_person"),
    )


def load_annotated_people(json_file: str, image_root: str) -> list[dict]:
    """People with labelled joints, their boxes cut to the image (method section 5.2).

    Left out, counted in the log, are crowds, people without a labelled joint, and boxes without
    area within the image.

    Args:
        json_file: annotations in the layout of `person_keypoints_*.json`.
        image_root: folder of the images.

    Returns:
        one dict a person with "file_name", "image_id", "height", "width", "person_id" (the
        annotation's), "person_box" (x, y, width, height), "box_score" 1, and "annotations" with
        this person's alone, as Detectron2 has them.

    Raises:
        FileNotFoundError, InputError: of `read_people`, or nobody is left.
    """
    content = read_people(json_file, NUM_KEYPOINTS)
    images = _image_dicts(content["images"], image_root)
    crowds, unlabelled, no_area, people = [], [], [], []
    for item in content["annotations"]:
        image = images[item["image_id"]]
        box = _clean_box(item["bbox"], image["width"], image["height"])
        if item["iscrowd"]:
            crowds.append(item["id"])
        elif item["num_keypoints"] == 0:
            unlabelled.append(item["id"])
        elif box is None or item["area"] <= 0:
            no_area.append(item["id"])
        else:
            annotation = {
                "bbox": box,
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 0,
                "keypoints": item["keypoints"],
                "iscrowd": 0,
            }
            people.append(_person(image, item["id"], box, 1.0) | {"annotations": [annotation]})
    _report(
        json_file,
        len(people),
        {
            "crowds": crowds,
            "people without a labelled joint": unlabelled,
            "people whose box has no area within the image": no_area,
        },
    )
    return people


def load_detected_people(json_file: str, image_root: str, detections_file: str) -> list[dict]:
    """People of a detector, boxes as they are.

    Left out, counted in the log, are other categories, images that the annotations don't list, and
    boxes without area or wholly outside their image.

    Args:
        json_file: annotations, of which only the images are read.
        image_root: folder of the images.
        detections_file: JSON list of "image_id", "category_id", "bbox", "score".

    Returns:
        as `load_annotated_people`, "person_id" being the place in the file, without "annotations".

    Raises:
        FileNotFoundError: a file is missing.
        InputError: a file is no JSON of this layout, or nobody is left.
    """
    images = _image_dicts(read_people(json_file, NUM_KEYPOINTS)["images"], image_root)
    detections = read_detections(detections_file)
    others, unknown, no_area, people = [], [], [], []
    for index, item in enumerate(detections):
        image = images.get(item["image_id"])
        if item["category_id"] != _PERSON:
            others.append(index)
        elif image is None:
            unknown.append(index)
        elif not _overlaps(item["bbox"], image["width"], image["height"]):
            no_area.append(index)
        else:
            people.append(_person(image, index, list(item["bbox"]), float(item["score"])))
    _report(
        detections_file,
        len(people),
        {
            "detections of other categories": others,
            f"detections on images that {json_file} does not list": unknown,
            "detections without area within their image": no_area,
        },
    )
    return people


def _image_dicts(images: list[dict], image_root: str) -> dict[int, dict]:
    return {
        image["id"]: {
            "file_name": os.path.join(image_root, image["file_name"]),
            "image_id": image["id"],
            "height": image["height"],
            "width": image["width"],
        }
        for image in images
    }


def _person(image: dict, person_id: int, box: list[float], score: float) -> dict:
    return image | {"person_id": person_id, "person_box": box, "box_score": score}


def _clean_box(box: list[float], width: int, height: int) -> list[float] | None:
    """x, y, width, height cut to the image; None where nothing is left."""
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right = min(width - 1.0, left + max(0.0, box[2] - 1))
    bottom = min(height - 1.0, top + max(0.0, box[3] - 1))
    if not (np.isfinite(box).all() and right > left and bottom > top):
        return None
    return [left, top, right - left, bottom - top]


def _overlaps(box: list[float], width: int, height: int) -> bool:
    left, top, extent, rise = box
    return bool(
        np.isfinite(box).all()
        and min(extent, rise) > 0
        and left < width
        and top < height
        and left + extent > 0
        and top + rise > 0
    )


def _report(source: str, num_people: int, left_out: dict[str, list[int]]) -> None:
    """Say who is left out and why; an empty rest is an error."""
    parts = [
        f"{len(ids)} {reason} ({', '.join(map(str, ids[:5]))}{', ...' if len(ids) > 5 else ''})"
        for reason, ids in left_out.items()
        if ids
    ]
    text = f"{num_people} people of {source}; left out: {'; '.join(parts) or 'nobody'}"
    if not num_people:
        raise InputError(text)
    logger.info(text)
