"""Read COCO's JSON files of people and detections, and check every field."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
    "0 or 1": lambda value: isinstance(value, bool) or _is_number(value),
    "a size in pixels": lambda value: _is_number(value) and value >= 1,
    # Boxes that aren't finite are left out later, together with boxes without area.
    "x, y, width, height": lambda value: _is_list_of_numbers(value) and len(value) == 4,
    "a list of numbers": _are_finite,
}
_ID = "an integer or a string"
_IMAGE = {"id": _ID, "file_name": "a string"}
_IMAGE |= dict.fromkeys(("height", "width"), "a size in pixels")
_CATEGORY = {"id": _ID, "name": "a string"}
_PERSON = {"image_id": _ID, "bbox": "x, y, width, height"}
_OPTIONAL = {"keypoints": "a list of numbers", "num_keypoints": "a number"}
_OPTIONAL |= {"area": "a number", "iscrowd": "0 or 1"}
_DETECTION = {"image_id": _ID, "category_id": _ID}
_DETECTION |= {"bbox": "x, y, width, height", "score": "a number"}
_POSED = {"image_id": _ID, "score": "a number", "keypoints": "a list of numbers"}


class People(NamedTuple):
    """Images and people of a file, with the ids of the file."""

    images: list[dict]  # "id", "file_name", "height", "width"
    annotations: list[dict]  # one for each person
    category_ids: list[int | str]  # ids of the category "person", usually one


def read_people(file_name: str, num_keypoints: int) -> People:
    """Read COCO's annotations of people, check them, and fill in missing fields.

    Ids may be integers or strings, and 1 is the same as "1". Images are told apart by their ids;
    the ids of annotations may repeat or be missing, because nothing depends on them.

    Args:
        file_name: JSON file in the layout of `person_keypoints_*.json`.
        num_keypoints: Number of keypoints that each annotation must have.

    Returns:
        The images, and the annotations of the category "person". Each of these has "person_id" (its
        id, or its place in the list unless all ids are different integers), "image_id" as its image
        has it, "bbox", "keypoints" (zeros if the file has none), "num_keypoints", "area" (by
        default the box's) and "iscrowd" (0 or 1).

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't JSON, lacks a list or a field, has no category "person", has
            another number of keypoints, gives two images the same id, or annotates images that it
            doesn't list.
    """
    content = read_json(file_name)
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or any(key not in content for key in lists):
        raise InputError(f"{file_name} lacks one of COCO's lists {lists}")
    for key, fields in zip(lists, (_IMAGE, {"category_id": _ID}, _CATEGORY), strict=True):
        _check_list(f"{file_name}: {key}", content[key], fields)
    names = {item["id"]: item["name"] for item in content["categories"]}
    category_ids = [id_ for id_, name in names.items() if name.strip().lower() == "person"]
    if not category_ids:
        found = sorted(set(names.values()))
        raise InputError(f"{file_name}: categories are {found}, expected one named 'person'")
    known = set(map(str, category_ids))
    images = _images_by_id(content["images"], file_name)
    found = [item for item in content["annotations"] if str(item["category_id"]) in known]
    ids = [item.get("id") for item in found]
    is_unique = set(map(type, ids)) == {int} and len(set(ids)) == len(ids)
    annotations = [
        _complete(item, person_id, num_keypoints, images, file_name)
        for person_id, item in zip(ids if is_unique else range(len(ids)), found, strict=True)
    ]
    return People(list(images.values()), annotations, category_ids)


def _images_by_id(images: list[dict], file_name: str) -> dict[str, dict]:
    """Key the images by the text of their id. An image that is listed twice counts once."""
    found: dict[str, dict] = {}
    for image in images:
        other = found.setdefault(str(image["id"]), image)
        if any(image[key] != other[key] for key in ("file_name", "height", "width")):
            raise InputError(
                f"{file_name}: the images {other['file_name']} and {image['file_name']} have the "
                f"same id {image['id']!r}"
            )
    return found


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


def _complete(
    item: dict, person_id: int, num_keypoints: int, images: Mapping[str, dict], file_name: str
) -> dict:
    """Check an annotation of a person; optional fields that are null or empty count as missing."""
    place = f"{file_name}: annotation {item.get('id', f'number {person_id}')}"
    person = {k: value for k, value in item.items() if k not in _OPTIONAL or value is not None}
    person["keypoints"] = person.get("keypoints") or [0] * (3 * num_keypoints)
    _check_fields(place, person, _PERSON)
    _check_fields(place, person, {key: _OPTIONAL[key] for key in _OPTIONAL if key in person})
    _check_keypoints(place, person, num_keypoints)
    image = images.get(str(person["image_id"]))
    if image is None:
        raise InputError(
            f"{place} belongs to image {person['image_id']}, which the file does not list"
        )
    return {
        "num_keypoints": sum(v > 0 for v in person["keypoints"][2::3]),
        "area": person["bbox"][2] * person["bbox"][3],
        **person,
        "person_id": person_id,
        "image_id": image["id"],
        "iscrowd": int(bool(person.get("iscrowd", 0))),
    }


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
