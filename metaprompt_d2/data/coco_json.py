"""Read COCO's JSON files of people and detections, and check every field."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..utils.errors import InputError
from ..utils.files import read_json


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {int, float}


def _are_finite(value: Any) -> bool:
    # The sum is checked instead of every number: a file holds tens of millions.
    return _is_list_of_numbers(value) and math.isfinite(sum(value))


# Kinds of fields, by the words that error messages use.
_KINDS: dict[str, Callable[[Any], bool]] = {
    "an integer or a string": lambda value: type(value) in (int, str),
    "a string": lambda value: isinstance(value, str),
    "a number": _is_number,
    "a size in pixels": lambda value: _is_number(value) and value >= 1,
    # Boxes that aren't finite are left out later, together with boxes without area.
    "x, y, width, height": lambda value: _is_list_of_numbers(value) and len(value) == 4,
    "a list of numbers": _are_finite,
}
_ID = "an integer or a string"
_IMAGE = {"id": _ID, "file_name": "a string"}
_IMAGE |= dict.fromkeys(("height", "width"), "a size in pixels")
_CATEGORY = {"id": _ID, "name": "a string"}
_PERSON = {"id": _ID, "image_id": _ID, "bbox": "x, y, width, height"}
_PERSON |= {"keypoints": "a list of numbers", "iscrowd": "a number"}
_OPTIONAL = {"num_keypoints": "a number", "area": "a number"}
_DETECTION = {"image_id": _ID, "category_id": _ID}
_DETECTION |= {"bbox": "x, y, width, height", "score": "a number"}
_POSED = {"image_id": _ID, "score": "a number", "keypoints": "a list of numbers"}


def read_people(file_name: str, num_keypoints: int) -> dict[str, Any]:
    """Read COCO's annotations of people, check them, and fill in missing fields.

    Args:
        file_name: JSON file in the layout of `person_keypoints_*.json`.
        num_keypoints: Number of keypoints that each annotation must have.

    Returns:
        The content of the file. Only annotations of the category "person" are kept. Each of them
        has "keypoints" (zeros if the file has none), "num_keypoints", "area" and "iscrowd".

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't JSON, lacks a list or a field, has another number of keypoints,
            or annotates images that it doesn't list.
    """
    content = read_json(file_name)
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or any(key not in content for key in lists):
        raise InputError(f"{file_name} lacks one of COCO's lists {lists}")
    for key, fields in zip(lists, (_IMAGE, {"category_id": _ID}, _CATEGORY), strict=True):
        _check_list(f"{file_name}: {key}", content[key], fields)
    people = {item["id"] for item in content["categories"] if item["name"] == "person"}
    known = {image["id"] for image in content["images"]}
    annotations = [
        _complete(item, num_keypoints, known, file_name)
        for item in content["annotations"]
        if item["category_id"] in people
    ]
    return content | {"annotations": annotations}


def read_detections(file_name: str) -> list[dict]:
    """Read a detector's boxes: "image_id", "category_id", "bbox" and "score" each.

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't a JSON list of such boxes.
    """
    detections = read_json(file_name)
    _check_list(f"{file_name}: detections", detections, _DETECTION)
    return detections


def check_posed_people(file_name: str, entries: list, num_keypoints: int) -> None:
    """Check that entries have the fields of COCO's result format for keypoints.

    Raises:
        InputError: An entry hasn't; the message names the first one.
    """
    _check_list(f"{file_name}: entries", entries, _POSED)
    for number, entry in enumerate(entries):
        _check_keypoints(f"{file_name}: entries[{number}]", entry, num_keypoints)


def _complete(item: dict, num_keypoints: int, images: set, file_name: str) -> dict:
    person = {"keypoints": [0] * (3 * num_keypoints), "iscrowd": 0} | item
    place = f"{file_name}: annotation {item.get('id')}"
    _check_fields(place, person, _PERSON)
    _check_fields(place, person, {key: kind for key, kind in _OPTIONAL.items() if key in item})
    _check_keypoints(place, person, num_keypoints)
    if person["image_id"] not in images:
        raise InputError(
            f"{place} belongs to image {person['image_id']}, which the file does not list"
        )
    person.setdefault("num_keypoints", sum(v > 0 for v in person["keypoints"][2::3]))
    person.setdefault("area", person["bbox"][2] * person["bbox"][3])
    return person


def _check_keypoints(place: str, person: dict, num_keypoints: int) -> None:
    if len(person["keypoints"]) != 3 * num_keypoints:
        raise InputError(
            f"{place} has {len(person['keypoints']) / 3:g} keypoints, expected {num_keypoints}"
        )


def _check_list(place: str, items: Any, fields: Mapping[str, str]) -> None:
    if not isinstance(items, list):
        raise InputError(f"{place} are {str(items)[:60]}, expected a list")
    for number, item in enumerate(items):
        _check_fields(f"{place}[{number}]", item, fields)


def _check_fields(place: str, item: Any, fields: Mapping[str, str]) -> None:
    if not isinstance(item, dict):
        raise InputError(f"{place} is {str(item)[:60]}, expected names and values")
    for name, kind in fields.items():
        if name not in item:
            raise InputError(f"{place} has no {name!r}")
        if not _KINDS[kind](item[name]):
            raise InputError(f"{place}: {name} is {str(item[name])[:60]}, expected {kind}")
