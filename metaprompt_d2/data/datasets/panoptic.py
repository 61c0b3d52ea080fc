"""Register panoptic segmentation datasets in COCO's format: a JSON file and PNGs of segment ids."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from ...utils.errors import InputError, MissingFileError, input_errors
from ...utils.files import read_json


def register_panoptic(
    name: str,
    panoptic_json: str,
    panoptic_root: str,
    image_root: str,
    *,
    categories: Sequence[Mapping[str, Any]] | None = None,
    instances_json: str | None = None,
    sem_seg_root: str | None = None,
    sem_seg_name: Callable[[str], str] = str,
    **metadata: Any,
) -> None:
    """Register a dataset for training and evaluation.

    Args:
        name: Name for DATASETS.TRAIN and DATASETS.TEST.
        panoptic_json: Images, segments and categories in the format of COCO's
            `panoptic_val2017.json`.
        panoptic_root: Folder of the PNGs of segment ids that it lists.
        image_root: Folder of the images that it lists.
        categories: Categories in the order of their classes, each with "id", "name", "isthing" and
            optionally "color"; None takes those of the file, which is then read now.
        instances_json: Annotations of the things in COCO's format, for their AP.
        sem_seg_root: Folder of label maps with the same classes, for the mIoU.
        sem_seg_name: Function from the name of a PNG of segment ids to that of its label map.
        metadata: Further metadata, or other values than those of the categories.

    Raises:
        InputError: The name is taken, or the categories are wrong.
        MissingFileError: The file doesn't exist, and `categories` isn't given.
    """
    if name in DatasetCatalog.list():
        raise InputError(f"a dataset named {name!r} is registered already")
    if categories is None:
        categories = _list_in(read_json(panoptic_json), "categories", panoptic_json)
    where = f"categories of dataset {name!r} need id, name and isthing, but one has no"
    with input_errors(where, KeyError):
        names = [category["name"] for category in categories]
        classes = {category["id"]: index for index, category in enumerate(categories)}
        things = {part["id"]: classes[part["id"]] for part in categories if part["isthing"]}
    if not names or len(classes) != len(names):
        raise InputError(f"dataset {name!r} has no categories, or two of them have the same id")
    DatasetCatalog.register(
        name,
        partial(
            load_panoptic,
            panoptic_json,
            panoptic_root,
            image_root,
            classes=classes,
            thing_ids=things,
            sem_seg_root=sem_seg_root,
            sem_seg_name=sem_seg_name,
        ),
    )
    known: dict[str, Any] = {
        "thing_classes": names,
        "stuff_classes": names,
        "thing_dataset_id_to_contiguous_id": things,
        # With the things, as in Mask2Former: SemSegEvaluator looks all classes up here.
        "stuff_dataset_id_to_contiguous_id": classes,
        "panoptic_json": panoptic_json,
        "panoptic_root": panoptic_root,
        "image_root": image_root,
        "evaluator_type": "coco_panoptic_seg",
        "ignore_label": 255,
        "label_divisor": 1000,
    }
    if all("color" in category for category in categories):
        colors = [tuple(category["color"]) for category in categories]
        known |= {"thing_colors": colors, "stuff_colors": colors}
    if instances_json is not None:
        known["json_file"] = instances_json
    if sem_seg_root is not None:
        known["sem_seg_root"] = sem_seg_root
    MetadataCatalog.get(name).set(**known | metadata)


def load_panoptic(
    panoptic_json: str,
    panoptic_root: str,
    image_root: str,
    *,
    classes: Mapping[int, int],
    thing_ids: Collection[int],
    sem_seg_root: str | None = None,
    sem_seg_name: Callable[[str], str] = str,
) -> list[dict]:
    """Load the images and segments of a panoptic JSON file.

    Args:
        panoptic_json, panoptic_root, image_root, sem_seg_root, sem_seg_name: As in
            `register_panoptic`.
        classes: Class of each category, by the id of the category in the file.
        thing_ids: Ids of the categories that are things.

    Returns:
        Dicts in Detectron2's format with "file_name", "image_id", "pan_seg_file_name",
        "segments_info" (whose "category_id" is the class), with label maps "sem_seg_file_name",
        and "height" and "width" where the file has them. The mapper finds other missing files than
        those of the first image.

    Raises:
        MissingFileError: The JSON file, or a file of the first image, doesn't exist.
        InputError: The file isn't JSON of this format; it lists no image; or an annotation has an
            unknown image or category. The message names the file and the ids.
    """
    content = read_json(panoptic_json)
    images = {
        image["id"]: image
        for image in _list_in(content, "images", panoptic_json, ("id", "file_name"))
    }
    fields = ("image_id", "file_name", "segments_info")
    dicts = []
    for note in _list_in(content, "annotations", panoptic_json, fields):
        image = images.get(note["image_id"])
        if image is None:
            raise InputError(
                f"{panoptic_json}: the annotation {note['file_name']} has the image_id "
                f"{note['image_id']!r}, which its images don't list"
            )
        item = {
            "file_name": os.path.join(image_root, image["file_name"]),
            "image_id": note["image_id"],
            "pan_seg_file_name": os.path.join(panoptic_root, note["file_name"]),
            "segments_info": list(_segments(note, panoptic_json, classes, thing_ids)),
        }
        if sem_seg_root is not None:
            label_map = sem_seg_name(note["file_name"])
            item["sem_seg_file_name"] = os.path.join(sem_seg_root, label_map)
        dicts.append(item | {key: image[key] for key in ("height", "width") if key in image})
    if not dicts:
        raise InputError(f"{panoptic_json} has no annotations")
    for key in ("file_name", "pan_seg_file_name", "sem_seg_file_name"):
        if key in dicts[0] and not PathManager.isfile(dicts[0][key]):
            raise MissingFileError(f"{dicts[0][key]}, of {panoptic_json}, does not exist")
    return dicts


def _segments(
    note: dict, file: str, classes: Mapping[int, int], thing_ids: Collection[int]
) -> Iterator[dict]:
    """Yield the segments of an annotation with their classes as "category_id"."""
    for segment in note["segments_info"]:
        if not isinstance(segment, dict) or not segment.keys() >= {"id", "category_id"}:
            raise InputError(
                f"{file}: a segment of {note['file_name']} is {segment!r}, expected an id and a "
                "category_id"
            )
        category = segment["category_id"]
        if category not in classes:
            raise InputError(
                f"{file}: segment {segment['id']} of {note['file_name']} has the category_id "
                f"{category!r}, expected one of {sorted(classes)}"
            )
        yield segment | {"category_id": classes[category], "isthing": category in thing_ids}


def _list_in(content: Any, key: str, file: str, fields: Sequence[str] = ()) -> list[dict]:
    """Return a list of dicts that a JSON file holds, and check that they have the fields."""
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(part, dict) for part in found):
        raise InputError(f"{file} has no list {key!r}, expected COCO's panoptic format")
    for number, part in enumerate(found):
        if lacking := [field for field in fields if field not in part]:
            raise InputError(f"{file}: number {number} of its {key} has no {lacking[0]}")
    return found
