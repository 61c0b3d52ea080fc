"""Register keypoints of people or of anything else, one sample for each box."""

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ...utils.errors import InputError
from ..coco_json import read_detections, read_keypoint_metadata, read_people
from ..keypoint_schemas import make_keypoint_schema

logger = logging.getLogger(__name__)


def register_keypoints(
    name: str,
    json_file: str,
    image_root: str,
    *,
    detections_file: str | None = None,
    **metadata: Any,
) -> None:
    """Register annotations in COCO's layout, one sample for each annotated or detected box.

    Args:
        name: Name for DATASETS.TRAIN and DATASETS.TEST.
        json_file: Annotations, for training and evaluation.
        image_root: Folder of the images.
        detections_file: File to take the boxes from; None takes them from the annotations.
        metadata: What `read_keypoint_metadata` doesn't find, such as `keypoint_flip_map` and
            `keypoint_oks_sigmas` (see `KeypointSchema.from_metadata`). `thing_classes` chooses
            categories by their names. With `keypoint_names` too, the file is read when the dataset
            is used, and now otherwise.

    Raises:
        InputError: The name is taken, as in `read_keypoint_metadata`, or the metadata is wrong.
    """
    if name in DatasetCatalog.list():
        raise InputError(f"a dataset named {name!r} is registered already")
    if not metadata.keys() >= {"keypoint_names", "thing_classes"}:
        metadata = read_keypoint_metadata(json_file, metadata.get("thing_classes")) | metadata
    schema = make_keypoint_schema(name, metadata)
    paths: dict[str, Any] = {"json_file": json_file, "image_root": image_root}
    load: Any = load_annotated_people
    if detections_file is not None:
        paths["detections_file"], load = detections_file, load_detected_people
    layout = {"categories": metadata["thing_classes"], "num_keypoints": len(schema)}
    DatasetCatalog.register(name, partial(load, **paths, **layout, parts=schema.parts))
    MetadataCatalog.get(name).set(evaluator_type="coco_person_topdown", **paths, **metadata)


def load_annotated_people(
    json_file: str,
    image_root: str,
    *,
    categories: Sequence[str],
    num_keypoints: int,
    parts: Sequence[tuple[str, int]] = (),
) -> list[dict]:
    """Load the people with labeled keypoints, with their boxes clipped to the image.

    Crowds, people without a labeled keypoint and boxes without area within the image are left out;
    the log counts them.

    Args:
        json_file: Annotations in the layout of `person_keypoints_*.json`.
        image_root: Folder of the images.
        categories, num_keypoints, parts: As in `read_people`; its "people" may be anything.

    Returns:
        One dict per person with "file_name", "image_id" as in the file, "height", "width",
        "category_id" (an index of `categories`), "person_id" (as in `read_people`), "person_box"
        (x, y, width, height), "box_score" 1, and "annotations" with this person's annotation in
        Detectron2's format.

    Raises:
        MissingFileError: A file doesn't exist.
        InputError: As in `read_people`, or nobody is left.
    """
    content = read_people(json_file, categories, num_keypoints, parts=parts)
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
            category = content.classes[item["category_id"]]
            annotation = {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0}
            annotation |= {"category_id": category, "keypoints": item["keypoints"]}
            person = _person(image, category, item["person_id"], box, 1.0)
            people.append(person | {"annotations": [annotation]})
    _report(json_file, len(people), left_out)
    return people


def load_detected_people(
    json_file: str,
    image_root: str,
    detections_file: str,
    *,
    categories: Sequence[str],
    num_keypoints: int,
    parts: Sequence[tuple[str, int]] = (),
) -> list[dict]:
    """Load the people that a detector found, with their boxes unchanged.

    Other categories, images that the annotations don't list, and boxes without area or outside of
    their image are left out; the log counts them.

    Args:
        json_file: Annotations, of which the images and the ids of the categories are taken.
        image_root: Folder of the images.
        categories, num_keypoints, parts: As in `read_people`.
        detections_file: JSON list of "image_id", "category_id", "bbox" and "score".

    Returns:
        Dicts as in `load_annotated_people`, but without "annotations". The "person_id" is the index
        in the detections file.

    Raises:
        MissingFileError: A file doesn't exist.
        InputError: A file isn't JSON of this layout, or nobody is left.
    """
    content = read_people(json_file, categories, num_keypoints, parts=parts)
    images = _image_dicts(content.images, image_root)
    known = {str(id_): index for id_, index in content.classes.items()}
    others = f"detections of other categories than {' or '.join(categories)}, {' or '.join(known)}"
    people, left_out = [], defaultdict(list)
    for index, item in enumerate(read_detections(detections_file)):
        image, category = images.get(str(item["image_id"])), known.get(str(item["category_id"]))
        if category is None:
            left_out[others].append(index)
        elif image is None:
            left_out[f"detections on images that {json_file} does not list"].append(index)
        elif not _overlaps(item["bbox"], image["width"], image["height"]):
            left_out["detections without area within their image"].append(index)
        else:
            box, score = list(item["bbox"]), float(item["score"])
            people.append(_person(image, category, index, box, score))
    _report(detections_file, len(people), left_out)
    return people


def _image_dicts(images: list[dict], image_root: str) -> dict[str, dict]:
    """Make the items of dataset dicts that describe images, by the text of their ids."""
    return {
        str(image["id"]): {"file_name": os.path.join(image_root, image["file_name"])}
        | {"image_id": image["id"], "height": image["height"], "width": image["width"]}
        for image in images
    }


def _person(image: dict, category: int, person_id: int, box: list[float], score: float) -> dict:
    person = {"category_id": category, "person_id": person_id}
    return image | person | {"person_box": box, "box_score": score}


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
