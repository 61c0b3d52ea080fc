"""COCO's JSON files of people and detections, checked field by field and completed."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..utils.errors import InputError
from ..utils.files import read_json

__all__ = ["check_posed_people", "read_detections", "read_people"]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {int, float}


def _are_finite(value: Any) -> bool:
    # By their sum, all at once: a file has ten millions of numbers.
    return _is_list_of_numbers(value) and math.isfinite(sum(value))


# What a field may be, as an error says it.
_KINDS: dict[str, Callable[[Any], bool]] = {
    "an integer or a string": lambda value: type(value) in (int, str),
    "a string": lambda value: isinstance(value, str),
    "a number": _is_number,
    "a size in pixels": lambda value: _is_number(value) and value >= 1,
    # Boxes that are not finite have no area: they are left out with those, and counted.
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


def read_people(file_name: str, num_joints: int) -> dict[str, Any]:
    """COCO's annotations of people, checked and completed.

    Args:
        file_name: of a JSON in the layout of `person_keypoints_*.json`.
        num_joints: that each annotation must have.

    Returns:
        the file's content, of which every annotation of the category "person" (others are left
        out) has "keypoints" (zeros where the file has none), "num_keypoints", "area" and "iscrowd".

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is no JSON, lacks a list or a field, has another number of joints, or
            annotates images that it doesn't list.
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
        _complete(item, num_joints, known, file_name)
        for item in content["annotations"]
        if item["category_id"] in people
    ]
    return content | {"annotations": annotations}


def read_detections(file_name: str) -> list[dict]:
    """A detector's boxes: "image_id", "category_id", "bbox", "score".

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is no JSON list of these.
    """
    detections = read_json(file_name)
    _check_list(f"{file_name}: detections", detections, _DETECTION)
    return detections


def check_posed_people(file_name: str, entries: list, num_joints: int) -> None:
    """Entries of COCO's format of results must have what it says.

    Raises:
        InputError: naming the first that has not.
    """
    _check_list(f"{file_name}: entries", entries, _POSED)
    for number, entry in enumerate(entries):
        _check_joints(f"{file_name}: entries[{number}]", entry, num_joints)


def _complete(item: dict, num_joints: int, images: set, file_name: str) -> dict:
    person = {"keypoints": [0] * (3 * num_joints), "iscrowd": 0} | item
    place = f"{file_name}: annotation {item.get('id')}"
    _check_fields(place, person, _PERSON)
    _check_fields(place, person, {key: kind for key, kind in _OPTIONAL.items() if key in item})
    _check_joints(place, person, num_joints)
    if person["image_id"] not in images:
        raise InputError(
            f"{place} belongs to image {person['image_id']}, which the file does not list"
        )
    person.setdefault("num_keypoints", sum(v > 0 for v in person["keypoints"][2::3]))
    person.setdefault("area", person["bbox"][2] * person["bbox"][3])
    return person


def _check_joints(place: str, person: dict, num_joints: int) -> None:
    if len(person["keypoints"]) != 3 * num_joints:
        raise InputError(
            f"{place} has {len(person['keypoints']) / 3:g} joints, expected {num_joints}"
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
