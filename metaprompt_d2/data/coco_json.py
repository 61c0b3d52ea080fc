"""Read COCO's JSON files of keypoints and detections, and check every field."""

import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..codecs import KeypointSchema
from ..utils.errors import InputError
from ..utils.files import read_json

logger = logging.getLogger(__name__)


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
    "a list of names": lambda value: (
        isinstance(value, list) and all(isinstance(name, str) and name for name in value)
    ),
    "a list": lambda value: isinstance(value, list),
}
_ID = "an integer or a string"
_IMAGE = {"id": _ID, "file_name": "a string"}
_IMAGE |= dict.fromkeys(("height", "width"), "a size in pixels")
_CATEGORY = {"id": _ID, "name": "a string"}
_PERSON = {"image_id": _ID, "bbox": "x, y, width, height"}
_OPTIONAL = {"num_keypoints": "a number", "area": "a number", "iscrowd": "0 or 1"}
_DETECTION = {"image_id": _ID, "category_id": _ID}
_DETECTION |= {"bbox": "x, y, width, height", "score": "a number"}
_POSED = {"image_id": _ID, "score": "a number", "keypoints": "a list of numbers"}


class People(NamedTuple):
    """Images and people, or whatever has keypoints, of a file, with the ids of the file."""

    images: list[dict]  # "id", "file_name", "height", "width"
    annotations: list[dict]  # one for each person
    classes: dict[int | str, int]  # index of each category's name, by the category's id


def read_keypoint_metadata(
    file_name: str, thing_classes: Sequence[str] | None = None
) -> dict[str, Any]:
    """Read what the categories of COCO's annotations say about their keypoints.

    Args:
        file_name: JSON file whose categories have "keypoints", a list of names, and perhaps
            "skeleton"; see `KeypointSchema.from_category`.
        thing_classes: Names of categories to read; None for all that have keypoints.

    Returns:
        Metadata "thing_classes", "keypoint_names" and "keypoint_connection_rules".

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't COCO's, no such category has keypoints, two of them have
            different ones, or a category is wrong.
    """
    categories = _read_lists(file_name)["categories"]
    wanted = thing_classes or [item["name"] for item in categories]
    ids = _classes_by_id(categories, wanted, file_name)
    found = [item for item in categories if item["id"] in ids and item.get("keypoints")]
    if not found:
        raise InputError(
            f"{file_name}: none of the categories {sorted({item['name'] for item in categories})} "
            "has names of keypoints: add them as 'keypoints', or give keypoint_names and "
            "thing_classes"
        )
    schemas = {}
    for item in found:
        place = f"{file_name}: category {item['name']!r}"
        kinds = {"keypoints": "a list of names", "skeleton": "a list"}
        _check_fields(place, item, {key: kinds[key] for key in kinds if item.get(key) is not None})
        try:
            schemas[item["name"]] = KeypointSchema.from_category(item)
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
    first_name, first = next(iter(schemas.items()))
    for name, schema in schemas.items():
        if schema != first:
            raise InputError(
                f"{file_name}: the categories {first_name!r} and {name!r} have different keypoints "
                "or skeletons: register each by its own thing_classes"
            )
    return {
        "thing_classes": list(schemas),
        "keypoint_names": list(first.names),
        "keypoint_connection_rules": list(first.connections),
    }


def read_people(
    file_name: str,
    categories: Sequence[str],
    num_keypoints: int,
    *,
    parts: Sequence[tuple[str, int]] = (),
    image_numbers: Sequence[str] = (),
) -> People:
    """Read COCO's annotations of some categories, check them, and fill in missing fields.

    Ids may be integers or strings, and 1 is the same as "1". Images are told apart by their ids;
    the ids of annotations may repeat or be missing, because nothing depends on them.

    Args:
        file_name: JSON file in the layout of `person_keypoints_*.json`.
        categories: Names of the categories, in upper or lower case.
        num_keypoints: Number of keypoints that each annotation must have.
        parts: Parts of the keypoints as in `KeypointSchema`, if they are in fields of their own:
            the first part in "keypoints", any other one in "<part>_kpts". A part whose
            "<part>_valid" is False isn't labeled. This is COCO-WholeBody's layout.
        image_numbers: Names of further fields that each image must have.

    Returns:
        The images, and the annotations of the categories. Each of these has "person_id" (its id, or
        its place in the list unless all ids are different integers), "image_id" and "category_id"
        as its image and its category have it, "bbox", "keypoints" (of all parts; zeros if the file
        has none), "num_keypoints" (of all parts), "area" (by default the box's) and "iscrowd" (0 or
        1).

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't JSON, lacks a list or a field, has none of the categories, has
            another number of keypoints, gives two images the same id, or annotates images that it
            doesn't list.
    """
    content = _read_lists(file_name, image_numbers)
    classes = _classes_by_id(content["categories"], categories, file_name)
    if not classes:
        found = sorted({item["name"] for item in content["categories"]})
        names = " or ".join(map(repr, categories))
        raise InputError(f"{file_name}: categories are {found}, expected one named {names}")
    known = {str(id_): id_ for id_ in classes}
    images = _images_by_id(content["images"], file_name)
    annotations = [
        item | {"category_id": known[str(item["category_id"])]}
        for item in content["annotations"]
        if str(item["category_id"]) in known
    ]
    ids = [item.get("id") for item in annotations]
    is_unique = set(map(type, ids)) == {int} and len(set(ids)) == len(ids)
    person_ids: Sequence[Any] = ids if is_unique else range(len(ids))
    people = [
        _complete(item, person_id, num_keypoints, parts, images, file_name)
        for person_id, item in zip(person_ids, annotations, strict=True)
    ]
    return People(list(images.values()), people, classes)


def _read_lists(file_name: str, image_numbers: Sequence[str] = ()) -> dict[str, list[dict]]:
    """Read a file with COCO's lists, and check the fields by which they are connected."""
    image = _IMAGE | dict.fromkeys(image_numbers, "a number")
    content = read_json(file_name)
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or any(key not in content for key in lists):
        raise InputError(f"{file_name} lacks one of COCO's lists {lists}")
    for key, fields in zip(lists, (image, {"category_id": _ID}, _CATEGORY), strict=True):
        _check_list(f"{file_name}: {key}", content[key], fields)
    return content


def _classes_by_id(
    categories: list[dict], names: Sequence[str], file_name: str
) -> dict[int | str, int]:
    """Index the names by the ids of the categories that have them, in upper or lower case.

    Names without a category are logged, if others have one.
    """
    indices = {name.strip().lower(): index for index, name in enumerate(names)}
    found = {item["id"]: indices.get(item["name"].strip().lower()) for item in categories}
    classes = {id_: index for id_, index in found.items() if index is not None}
    missing = [name for index, name in enumerate(names) if index not in classes.values()]
    if classes and missing:
        logger.warning("%s has no category %s", file_name, " or ".join(map(repr, missing)))
    return classes


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


def check_posed_people(
    file_name: str, entries: list, num_keypoints: int, *, parts: Sequence[tuple[str, int]] = ()
) -> list[dict]:
    """Check that entries have the fields of COCO's result format for keypoints.

    Returns:
        The entries with the "keypoints" of all parts, which are as in `read_people`.

    Raises:
        InputError: An entry hasn't; the message names the first one.
    """
    _check_list(f"{file_name}: entries", entries, _POSED)
    return [
        entry
        | {"keypoints": _join_parts(f"{file_name}: entries[{i}]", entry, num_keypoints, parts)}
        for i, entry in enumerate(entries)
    ]


def split_parts(
    keypoints: Sequence[float], parts: Sequence[tuple[str, int]]
) -> dict[str, Sequence[float]]:
    """Split keypoints into the fields that `read_people` and `check_posed_people` join."""
    numbers = iter(keypoints)
    fields = _name_fields(parts, len(keypoints) // 3)
    return {field: [*itertools.islice(numbers, 3 * count)] for field, _, count in fields}


def _complete(
    item: dict,
    person_id: int,
    num_keypoints: int,
    parts: Sequence[tuple[str, int]],
    images: Mapping[str, dict],
    file_name: str,
) -> dict:
    """Check an annotation of a person; optional fields that are null count as missing."""
    place = f"{file_name}: annotation {item.get('id', f'number {person_id}')}"
    person = {k: value for k, value in item.items() if k not in _OPTIONAL or value is not None}
    _check_fields(place, person, _PERSON)
    _check_fields(place, person, {key: _OPTIONAL[key] for key in _OPTIONAL if key in person})
    category = f"{place} of category {item['category_id']!r}"
    person["keypoints"] = _join_parts(category, person, num_keypoints, parts)
    labeled = sum(v > 0 for v in person["keypoints"][2::3])
    image = images.get(str(person["image_id"]))
    if image is None:
        raise InputError(
            f"{place} belongs to image {person['image_id']}, which the file does not list"
        )
    return {
        "num_keypoints": labeled,
        "area": person["bbox"][2] * person["bbox"][3],
        **person,
        **({"num_keypoints": labeled} if parts else {}),  # the file counts the first part alone
        "person_id": person_id,
        "image_id": image["id"],
        "iscrowd": int(bool(person.get("iscrowd", 0))),
    }


def _name_fields(
    parts: Sequence[tuple[str, int]], num_keypoints: int
) -> list[tuple[str, str, int]]:
    """Return the fields that hold keypoints, their flags, if any, and how many they hold."""
    (_, first), *others = parts or [("", num_keypoints)]
    return [
        ("keypoints", "", first),
        *((f"{part}_kpts", f"{part}_valid", count) for part, count in others),
    ]


def _join_parts(
    place: str, item: dict, num_keypoints: int, parts: Sequence[tuple[str, int]]
) -> list[float]:
    """Check the keypoints of a person in all fields, and put them one after the other."""
    joined: list[float] = []
    for field, flag, count in _name_fields(parts, num_keypoints):
        part = {field: item.get(field) or [0] * (3 * count), flag: item.get(flag, True)}
        _check_fields(place, part, {field: "a list of numbers", flag: "0 or 1"})
        if len(part[field]) != 3 * count:
            within = f" in {field}" if parts else ""
            raise InputError(
                f"{place} has {len(part[field]) / 3:g} keypoints{within}, expected {count}"
            )
        joined += part[field] if part[flag] else [0] * (3 * count)
    return joined


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
