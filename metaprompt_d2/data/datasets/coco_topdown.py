"""People of COCO, one sample per person, with annotated or detected boxes."""

import logging
import os
from collections import defaultdict
from functools import partial

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata
from detectron2.structures import BoxMode

from ...codecs import NUM_KEYPOINTS
from ...utils.errors import InputError
from ..coco_json import read_detections, read_people

logger = logging.getLogger(__name__)

# The usual detections (56.4 AP on val2017): in mmpose's folder, or next to the annotations.
DETECTIONS = (
    "coco/person_detection_results/COCO_val2017_detections_AP_H_56_person.json",
    "coco/annotations/COCO_val2017_detections_AP_H_56_person.json",
)


def register_coco_topdown(root: str) -> None:
    """Register `coco_2017_person_topdown_{train,val_gt,val_det}`."""
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
    """Register the people of annotations in COCO's layout.

    Args:
        name: Name of the dataset.
        json_file: Annotations, for training and evaluation.
        image_root: Folder of the images.
        detections_file: File to take the boxes from; None takes them from the annotations.
    """
    load = partial(load_annotated_people, json_file, image_root)
    if detections_file is not None:
        load = partial(load_detected_people, json_file, image_root, detections_file)
    DatasetCatalog.register(name, load)
    files = {"json_file": json_file, "image_root": image_root, "detections_file": detections_file}
    metadata = files | _get_builtin_metadata("coco_person")
    MetadataCatalog.get(name).set(evaluator_type="coco_person_topdown", **metadata)


def load_annotated_people(json_file: str, image_root: str) -> list[dict]:
    """Load the people with labeled keypoints, with their boxes clipped to the image.

    Crowds, people without a labeled keypoint and boxes without area within the image are left out;
    the log counts them.

    Args:
        json_file: Annotations in the layout of `person_keypoints_*.json`.
        image_root: Folder of the images.

    Returns:
        One dict per person with "file_name", "image_id" as in the file, "height", "width",
        "person_id" (as in `read_people`), "person_box" (x, y, width, height), "box_score" 1, and
        "annotations" with this person's annotation in Detectron2's format.

    Raises:
        MissingFileError: A file doesn't exist.
        InputError: As in `read_people`, or nobody is left.
    """
    content = read_people(json_file, NUM_KEYPOINTS)
    images = _image_dicts(content.images, image_root)
    people, left_out = [], defaultdict(list)
    for item in content.annotations:
        image, id_ = images[str(item["image_id"])], item.get("id", item["person_id"])
        box = _clean_box(item["bbox"], image["width"], image["height"])
        if item["iscrowd"]:
            left_out["crowds"].append(id_)
        elif item["num_keypoints"] == 0:
            left_out["people without a labeled keypoint"].append(id_)
        elif box is None or item["area"] <= 0:
            left_out["people whose box has no area within the image"].append(id_)
        else:
            annotation = {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
            annotation |= {"keypoints": item["keypoints"], "iscrowd": 0}
            person = _person(image, item["person_id"], box, 1.0)
            people.append(person | {"annotations": [annotation]})
    _report(json_file, len(people), left_out)
    return people


def load_detected_people(json_file: str, image_root: str, detections_file: str) -> list[dict]:
    """Load the people that a detector found, with their boxes unchanged.

    Other categories, images that the annotations don't list, and boxes without area or outside of
    their image are left out; the log counts them.

    Args:
        json_file: Annotations, of which the images and the ids of the category "person" are taken.
        image_root: Folder of the images.
        detections_file: JSON list of "image_id", "category_id", "bbox" and "score".

    Returns:
        Dicts as in `load_annotated_people`, but without "annotations". The "person_id" is the index
        in the detections file.

    Raises:
        MissingFileError: A file doesn't exist.
        InputError: A file isn't JSON of this layout, or nobody is left.
    """
    content = read_people(json_file, NUM_KEYPOINTS)
    images = _image_dicts(content.images, image_root)
    person_ids = set(map(str, content.category_ids))
    others = f"detections of other categories than the person's, {' or '.join(sorted(person_ids))}"
    people, left_out = [], defaultdict(list)
    for index, item in enumerate(read_detections(detections_file)):
        image = images.get(str(item["image_id"]))
        if str(item["category_id"]) not in person_ids:
            left_out[others].append(index)
        elif image is None:
            left_out[f"detections on images that {json_file} does not list"].append(index)
        elif not _overlaps(item["bbox"], image["width"], image["height"]):
            left_out["detections without area within their image"].append(index)
        else:
            people.append(_person(image, index, list(item["bbox"]), float(item["score"])))
    _report(detections_file, len(people), left_out)
    return people


def _image_dicts(images: list[dict], image_root: str) -> dict[str, dict]:
    """Make the items of dataset dicts that describe images, by the text of their ids."""
    return {
        str(image["id"]): {"file_name": os.path.join(image_root, image["file_name"])}
        | {"image_id": image["id"], "height": image["height"], "width": image["width"]}
        for image in images
    }


def _person(image: dict, person_id: int, box: list[float], score: float) -> dict:
    return image | {"person_id": person_id, "person_box": box, "box_score": score}


def _clean_box(box: list[float], width: int, height: int) -> list[float] | None:
    """Clip a box (x, y, width, height) to the image; None if nothing is left."""
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right = min(width - 1.0, left + max(0.0, box[2] - 1))
    bottom = min(height - 1.0, top + max(0.0, box[3] - 1))
    if not (np.isfinite(box).all() and right > left and bottom > top):
        return None
    return [left, top, right - left, bottom - top]


def _overlaps(box: list[float], width: int, height: int) -> bool:
    left, top, extent, rise = box
    inside = -extent < left < width and -rise < top < height
    return bool(np.isfinite(box).all()) and min(extent, rise) > 0 and inside


def _report(source: str, num_people: int, left_out: dict[str, list]) -> None:
    """Log who is left out and why; raise an InputError if nobody is left."""
    parts = [
        f"{len(ids)} {reason} ({', '.join(map(str, ids[:5]))}{', ...' if len(ids) > 5 else ''})"
        for reason, ids in left_out.items()
        if ids
    ]
    text = f"{num_people} people of {source}; left out: {'; '.join(parts) or 'nobody'}"
    if not num_people:
        raise InputError(text)
    logger.info(text)
